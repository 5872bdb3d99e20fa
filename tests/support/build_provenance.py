"""The smallest provenance that verifiers take: in-toto statements, and what they are wrapped in."""

import base64
import json
from typing import Any

DIGEST = "ab" * 32
REVISION = "9f3c" * 10
_ADDRESS = "git+https://git.example/notes@refs/tags/v1"


def slsa_1() -> dict[str, Any]:
    """A predicate of SLSA provenance v1, with its type."""
    return {
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://ci.example/build/v1",
                "externalParameters": {"source": _ADDRESS},
                "resolvedDependencies": [{"uri": _ADDRESS, "digest": {"gitCommit": REVISION}}],
            },
            "runDetails": {"builder": {"id": "https://ci.example/builder"}},
        },
    }


def slsa_0_2() -> dict[str, Any]:
    """The same, v0.2."""
    return {
        "predicateType": "https://slsa.dev/provenance/v0.2",
        "predicate": {
            "builder": {"id": "https://ci.example/builder"},
            "buildType": "https://ci.example/build/v1",
            "invocation": {"configSource": {"uri": _ADDRESS, "digest": {"sha1": REVISION}}},
            "materials": [{"uri": _ADDRESS, "digest": {"sha1": REVISION}}],
        },
    }


def statement(
    predicate: dict[str, Any], *sha256: str, version: str = "v1", name: str = "notes.bin"
) -> dict[str, Any]:
    """A statement about files with these digests."""
    subjects = [{"name": name, "digest": {"sha256": digest}} for digest in sha256 or (DIGEST,)]
    return {"_type": f"https://in-toto.io/Statement/{version}", "subject": subjects, **predicate}


def envelope(inner: dict[str, Any]) -> dict[str, Any]:
    """A DSSE envelope; nobody's signature."""
    return {
        "payloadType": "application/vnd.in-toto+json",
        "payload": base64.b64encode(written(inner)).decode(),
        "signatures": [{"keyid": "", "sig": base64.b64encode(bytes(64)).decode()}],
    }


def bundle(inner: dict[str, Any]) -> dict[str, Any]:
    """A Sigstore bundle, as far as it is looked at."""
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {},
        "dsseEnvelope": envelope(inner),
    }


def written(document: Any) -> bytes:
    return json.dumps(document).encode()
