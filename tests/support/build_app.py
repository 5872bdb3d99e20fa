"""Makes small app bundles of macOS and iOS, seals and signs them, and packs them in a ZIP archive."""

import hashlib
import plistlib
import stat
from dataclasses import dataclass, field, replace

from tests.support.build_macho import Signing, sign, thin
from tests.support.build_zip import Member, build_zip

RULES2 = {
    "^.*": True,
    r"^(.*/)?\.DS_Store$": {"omit": True, "weight": 2000.0},
    r"^Info\.plist$": {"omit": True, "weight": 20.0},
    r"^PkgInfo$": {"omit": True, "weight": 20.0},
    "^Resources/": {"weight": 20.0},
    r"^Resources/.*\.lproj/": {"optional": True, "weight": 1000.0},
    r"^Resources/.*\.lproj/locversion.plist$": {"omit": True, "weight": 1100.0},
}
RULES = {"^Resources/": True, "^version.plist$": True}


@dataclass(frozen=True)
class Link:
    target: str


Files = dict[str, bytes | Link]


@dataclass(frozen=True)
class App:
    """One bundle: `files` are its resources, relative to its contents. `nested` are rows of the seal, and their files."""

    name: str = "Notes.app"
    contents: str = "Contents/"
    executable: str = "Contents/MacOS/Notes"
    info_path: str = "Contents/Info.plist"
    info: dict[str, object] = field(default_factory=dict)
    files: Files = field(default_factory=lambda: {"Resources/notes.txt": b"words"})
    nested: dict[str, tuple[dict[str, object], Files]] = field(default_factory=dict)
    signing: Signing | None = field(default_factory=Signing)
    code: bytes = b"\x90" * 9000
    arch: str = "arm64"
    platform: int = 1
    rules: dict[str, object] = field(default_factory=lambda: dict(RULES2))
    sealed: bool = True
    version: int = 2

    def info_bytes(self) -> bytes:
        info = {
            "CFBundleIdentifier": "com.example.notes",
            "CFBundleName": "Notes",
            "CFBundleShortVersionString": "1.4.0",
            "CFBundleVersion": "1040",
            "CFBundleExecutable": self.executable.rpartition("/")[2],
            "LSMinimumSystemVersion": "12.0",
        }
        return plistlib.dumps(
            {key: value for key, value in {**info, **self.info}.items() if value is not None}
        )

    def seal(self) -> bytes:
        listed: dict[str, object] = {}
        for path, content in self.files.items():
            if isinstance(content, Link):
                listed[path] = {"symlink": content.target}
            elif self.version == 1:
                listed[path] = hashlib.sha1(content).digest()
            else:
                listed[path] = {"hash2": hashlib.sha256(content).digest()}
        listed.update({path: row for path, (row, _) in self.nested.items()})
        document: dict[str, object] = {"files": {}, "rules": RULES}
        if self.version == 1:
            return plistlib.dumps({"files": listed, "rules": self.rules})
        return plistlib.dumps({**document, "files2": listed, "rules2": self.rules})

    def build(self) -> Files:
        """Every file by its path, which begins with the bundle's name."""
        info = self.info_bytes()
        seal = self.seal() if self.sealed else None
        executable = thin(self.code, arch=self.arch, platform=self.platform)
        if self.signing is None:
            executable = thin(self.code, arch=self.arch, platform=self.platform, signature_bytes=None)
        else:
            executable = sign(executable, replace(self.signing, info=info, resources=seal))
        files: Files = {self.executable: executable, self.info_path: info}
        if seal is not None:
            files[f"{self.contents}_CodeSignature/CodeResources"] = seal
        files |= {self.contents + path: content for path, content in self.files.items()}
        for path, (_, inner) in self.nested.items():
            files |= {f"{self.contents}{path}{below}": content for below, content in inner.items()}
        return {f"{self.name}/{path}": content for path, content in files.items()}


IOS = App(
    name="Payload/Demo.app",
    contents="",
    executable="Demo",
    info_path="Info.plist",
    files={"Base.lproj/Main.nib": b"nib"},
    platform=2,
    rules={"^.*": True, r"^Info\.plist$": {"omit": True}, r"^PkgInfo$": {"omit": True}},
)


def framework(signing: Signing | None = None, name: str = "Core") -> tuple[App, Files]:
    """A versioned framework, and its files relative to the framework's folder."""
    app = App(
        name=f"{name}.framework",
        contents="Versions/A/",
        executable=f"Versions/A/{name}",
        info_path="Versions/A/Resources/Info.plist",
        info={"CFBundleIdentifier": "com.example.core", "CFBundleExecutable": name},
        files={"Resources/core.txt": b"core"},
        signing=signing or Signing(identifier="com.example.core"),
        code=b"\x91" * 5000,
    )
    app = replace(app, files={**app.files, "Resources/Info.plist": app.info_bytes()})
    files = {path.removeprefix(f"{app.name}/"): content for path, content in app.build().items()}
    files["Versions/Current"] = Link("A")
    files[name] = Link(f"Versions/Current/{name}")
    files["Resources"] = Link("Versions/Current/Resources")
    return app, files


def zipped(files: Files, *, mode: int = 0o755) -> bytes:
    """The files as a ZIP archive, links as links."""
    return build_zip(
        *(
            Member(path, content.target.encode(), mode=stat.S_IFLNK | 0o755)
            if isinstance(content, Link)
            else Member(path, content, deflate=True, mode=stat.S_IFREG | mode)
            for path, content in files.items()
        )
    )
