"""`dist ci publish` as a procedure: open, compare, upload, attach, submit, wait.

    1. open the release             the server answers with the one of this identity, whatever its state
    2. digest every file            constant memory; a file that changes meanwhile ends the run
    3. look at what is there        published with the same content: nothing to do; with other content: refused
    4. bring what is missing        uploads resume, and skip bytes that the server has
    5. submit                       `created` is true when this very call closed the draft
    6. wait                         published or rejected

Every step can be repeated: an interrupted run leaves a draft, and the next run goes on with it. Whatever is known when it fails goes into
the error's document.

Left to others: dist.json and its files (`declared.py`, `files.py`), transfer (`upload.py`), waiting (`waiting.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .client import Client
from .comparing import Wanted, artifact_key, attachment_key, attachment_row_key, compare, row_key
from .declared import Artifact, Attachment, Manifest
from .digest import Digested, digest
from .document import failure_of, finding_lines, release_document, rows
from .errors import CliError, ServerProblem
from .files import Ready
from .output import Output, size
from .paths import segment
from .upload import upload
from .waiting import step_watcher, wait_for


@dataclass(slots=True)
class Publication:
    """One run: what is to be published, and what is known of it on the server so far."""

    client: Client
    output: Output
    ready: Ready
    release: dict[str, Any] = field(default_factory=dict)
    created: bool = False
    _uploads: dict[str, str] = field(
        default_factory=dict
    )  # SHA-256 → upload id: files with the same bytes travel once

    @property
    def known(self) -> dict[str, Any]:
        """What goes into the document, also after a failure."""
        if not self.release:
            return {"created": False, "app": self.ready.manifest.app.slug}
        return release_document(self.release, created=self.created)

    def run(self, *, wait: bool, timeout_seconds: float) -> dict[str, Any]:
        """Publish; returns the document. Raises CliError, which then holds what is known."""
        try:
            self._run(wait=wait, timeout_seconds=timeout_seconds)
        except CliError as error:
            error.known = self.known | error.known | {"created": self.created}
            raise
        except KeyboardInterrupt:
            raise CliError(
                "interrupted",
                "The command was interrupted.",
                remedy="Run the same command again; it goes on from here.",
                known=self.known,
            ) from None
        return self.known

    def _run(self, *, wait: bool, timeout_seconds: float) -> None:
        self.release = open_release(self.client, self.ready)
        wanted = digests_of(self.ready)
        self.release = settle(self.client, self.ready, wanted, self.release)
        if self.release.get("status") == "draft":
            self._fill(wanted)
            self._submit()
        elif self.release.get("status") == "published":
            self._say_unmoved_channel()
            self.output.note(f"{self._title} is published already.")
        if wait and self.release.get("status") not in {"published", "rejected", "revoked"}:
            self.release = wait_for(
                self.client,
                self.release["id"],
                timeout_seconds=timeout_seconds,
                watch=step_watcher(self.output.note),
            )
        failure = failure_of(self.release, known=self.known)
        if failure is not None:
            self.output.explain(finding_lines(self.release))
            raise failure
        self._say_refused_channel()

    @property
    def _title(self) -> str:
        return f"{self.ready.manifest.app.slug} {self.ready.manifest.version}"

    def _fill(self, wanted: Wanted) -> None:
        """Step 4: every artifact and attachment that the draft does not hold yet."""
        release_id = self.release["id"]
        held = {row_key(row) for row in rows(self.release, "artifacts")}
        for artifact, file in wanted.artifacts:
            if artifact_key(artifact, file) not in held:
                add_artifact(self.client, release_id, artifact, file, upload_id=self._bring(file))
        self.release = self.client.get(f"/releases/{segment(release_id)}")
        attached = {attachment_row_key(row) for row in rows(self.release, "attachments")}
        for attachment, file in wanted.attachments:
            if attachment_key(attachment, file) not in attached:
                owner = self._owner(attachment, wanted)
                add_attachment(
                    self.client, release_id, attachment, file, upload_id=self._bring(file), owner=owner
                )
        extra = compare(wanted, self.client.get(f"/releases/{segment(release_id)}")).extra
        if extra:
            self.output.warn(
                f"the draft also holds {', '.join(extra)}, which another job added; it is published with the rest"
            )

    def _bring(self, file: Digested | None) -> str | None:
        if file is None:
            return None
        if file.sha256 not in self._uploads:
            self._uploads[file.sha256] = send(self.client, self.output, file)
        return self._uploads[file.sha256]

    def _owner(self, attachment: Attachment, wanted: Wanted) -> str | None:
        """The id of the artifact that an attachment belongs to."""
        for artifact, file in wanted.artifacts:
            if attachment.artifact is not None and artifact.path == attachment.artifact:
                key = artifact_key(artifact, file)
                return next(
                    (str(row["id"]) for row in rows(self.release, "artifacts") if row_key(row) == key), None
                )
        return None

    def _submit(self) -> None:
        """Step 5. Two runs may come here together: one of them moves the draft."""
        channel = self.ready.manifest.channel
        answer = self.client.post(
            f"/releases/{segment(self.release['id'])}/submit", {"channel": channel} if channel else {}
        )
        self.created = bool(answer.pop("submitted", False))
        self.release = answer
        self.output.note(f"{self._title}: submitted as {answer.get('id')}")

    def _say_refused_channel(self) -> None:
        result = self.release.get("channel_result") or {}
        if result and result.get("moved") is False:
            self.output.warn(
                f"channel {result.get('name')} was not moved: {result.get('reason') or 'the server gives no reason'}"
            )

    def _say_unmoved_channel(self) -> None:
        wanted, result = self.ready.manifest.channel, self.release.get("channel_result") or {}
        if wanted is not None and result.get("name") != wanted:
            self.output.warn(
                f"the release was published without channel {wanted}; move it with "
                f"`dist channel promote {self.ready.manifest.app.slug} {wanted} {self.release.get('id')}`"
            )


def open_release(client: Client, ready: Ready, *, supersede: str | None = None) -> dict[str, Any]:
    """Step 1: the release of this identity, new or not. An app that does not exist is created, if the token may."""
    manifest = ready.manifest
    path = f"/apps/{segment(manifest.app.slug)}/releases"
    body: dict[str, Any] = {"version": manifest.version}
    optional = {
        "build": manifest.build,
        "notes": ready.notes,
        "source": manifest.source,
        "channel": manifest.channel,
        "supersede": supersede,
    }
    body |= {key: value for key, value in optional.items() if value is not None}
    try:
        return client.post(path, body)
    except ServerProblem as problem:
        if problem.status != 404:
            raise
    try:
        create_app(client, manifest)
    except ServerProblem as problem:
        if (
            problem.status != 409
        ):  # another job created it in this very moment, maybe with another description
            raise
    return client.post(path, body)


def create_app(client: Client, manifest: Manifest) -> dict[str, Any]:
    """Create the app of a manifest. Raises CliError `forbidden`, naming the right, when the token may not."""
    app = manifest.app
    body: dict[str, Any] = {"slug": app.slug}
    optional = {
        "name": app.name,
        "description": app.description,
        "platforms": list(app.platforms) if app.platforms else None,
    }
    body |= {key: value for key, value in optional.items() if value is not None}
    try:
        return client.post("/apps", body)
    except ServerProblem as problem:
        if problem.code != "forbidden":
            raise
        raise CliError(
            "forbidden",
            f"There is no app {app.slug!r} that this token may see, and the token lacks the right app:create.",
            remedy=f"Ask an admin for `dist app create {app.slug}`, or for a token that may create apps.",
            right="app:create",
            correlation_id=problem.extra.get("correlation_id"),
        ) from problem


def digests_of(ready: Ready) -> Wanted:
    """Step 2: read every file once."""
    read: dict[Any, Digested] = {}

    def once(path: Any, filename: str) -> Digested:
        if path not in read:
            read[path] = digest(path, filename=filename)
        return read[path]

    return Wanted(
        [
            (artifact, None if file is None else once(file.path, file.filename))
            for artifact, file in ready.artifacts
        ],
        [(attachment, once(file.path, file.filename)) for attachment, file in ready.attachments],
    )


def settle(client: Client, ready: Ready, wanted: Wanted, release: Mapping[str, Any]) -> dict[str, Any]:
    """Step 3: the release to go on with. A rejected one with other content is opened anew; a closed one with other content is refused."""
    status = release.get("status")
    if status == "draft":
        return dict(release)
    difference = compare(wanted, release)
    if not difference or status == "revoked":
        return dict(release)
    if status == "rejected":
        return open_release(client, ready, supersede=str(release["id"]))
    raise CliError(
        "immutable",
        f"{ready.manifest.app.slug} {ready.manifest.version} is {status} as {release.get('id')} with other content: {difference.sentence()}.",
        title="Already published with other content"
        if status == "published"
        else "Already submitted with other content",
        remedy="Publish under a new version or build number; a release never changes.",
    )


def send(client: Client, output: Output, file: Digested) -> str:
    """Step 4 for one file: returns the id of the complete upload."""
    bar = output.bar(file.filename, file.size)
    done = upload(client, file, progress=bar.update)
    bar.done("the server has these bytes already" if done.deduplicated else f"uploaded {size(file.size)}")
    return done.id


def add_artifact(
    client: Client, release_id: str, artifact: Artifact, file: Digested | None, *, upload_id: str | None
) -> dict[str, Any]:
    """Put an artifact into a draft; the same one again is no error. Raises CliError `conflict` when its slot holds other bytes."""
    body: dict[str, Any] = {"platform": artifact.platform}
    optional = {
        "upload_id": upload_id,
        "arch": artifact.arch,
        "format": artifact.format,
        "variant": artifact.variant,
        "ios": artifact.ios,
        "contract": artifact.contract,
    }
    body |= {key: value for key, value in optional.items() if value is not None}
    if file is not None:
        body |= {"filename": file.filename, "size": file.size, "sha256": file.sha256}
    return _attach(client, release_id, "artifacts", body)


def add_attachment(
    client: Client,
    release_id: str,
    attachment: Attachment,
    file: Digested,
    *,
    upload_id: str | None,
    owner: str | None,
) -> dict[str, Any]:
    """Put an attachment into a draft; the same one again is no error."""
    body: dict[str, Any] = {"kind": attachment.kind, "filename": file.filename, "upload_id": upload_id}
    return _attach(
        client, release_id, "attachments", body | ({"artifact_id": owner} if owner is not None else {})
    )


def _attach(client: Client, release_id: str, kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return client.post(f"/releases/{segment(release_id)}/{kind}", body)
    except ServerProblem as problem:
        if problem.code == "conflict" and "dist release discard" not in problem.remedy:
            problem.remedy = f"Discard the draft with `dist release discard {release_id}` and publish again, or use another build number."
        raise
