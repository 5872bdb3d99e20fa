"""What a package tells about itself, as JSON values: for people, and for programs that want to know what they have."""

from typing import Any

from pipeline import minisign
from pipeline.package.blob import CHUNK_BYTES
from pipeline.package.native import BLOCK_BYTES, NativePackage, Shape
from pipeline.package.read import Package
from pipeline.package.sealed import Sealed


def describe(package: Package) -> dict[str, Any]:
    """Manifest, signature and the kind of file. A signature is shown here and judged by `sealed.judge`."""
    return {
        "format": package.format,
        "shape": package.shape.value,
        "compression": package.compression.value,
        "bytes": package.size,
        "manifest": describe_manifest(package.sealed),
        "signature": describe_seal(package.sealed),
    }


def describe_manifest(sealed: Sealed) -> dict[str, Any]:
    """The values of a manifest."""
    said = sealed.manifest
    return {
        "name": said.name,
        "version": said.version,
        "tree": said.tree.id,
        "tree_bytes": said.tree.size,
        "chunks": said.chunks.id,
        "chunks_bytes": said.chunks.size,
        "content_bytes": said.content_bytes,
        "outputs": [{"name": one.name, "path": one.path} for one in said.outputs],
        "artifacts": [
            {
                "path": one.path,
                "platform": one.platform.value,
                "arch": one.arch,
                "size": one.size,
                "blob": one.blob,
            }
            for one in said.artifacts
        ],
        "dependencies": [
            {"name": one.name, "version": one.version, "tree": one.tree} for one in said.dependencies
        ],
        "metadata": dict(said.metadata),
    }


def describe_seal(sealed: Sealed) -> dict[str, Any] | None:
    """Whose signature a package has; None for one that is not signed."""
    if sealed.seal is None:
        return None
    signature = minisign.parse_signature(sealed.seal.signature)
    return {
        "key_id": minisign.shown_key_id(signature.key_id),
        "public_key": minisign.parse_public_key(sealed.seal.key).line,
        "trusted_comment": signature.trusted_comment.decode("utf-8", "replace"),
    }


def describe_encoding(package: Package) -> dict[str, Any]:
    """How a package is written: its regions and blocks, its chunk index, and what has to come from elsewhere."""
    native = package if isinstance(package, NativePackage) else None
    document: dict[str, Any] = {
        "regions": [
            {"tag": region.tag, "offset": region.offset, "bytes": region.size}
            for region in (native.regions if native else [])
        ],
        "blocks": [
            {"offset": block.offset, "bytes": block.size, "stored_bytes": block.stored}
            for block in (native.blocks if native else [])
        ],
        "block_bytes": BLOCK_BYTES if native else None,
        "chunk_bytes": CHUNK_BYTES,
        "chunk_index": [
            {"blob": info.id, "size": info.size, "root": info.root, "chunks": len(info.leaves)}
            for info in (package.blobs or {}).values()
        ],
        "external": None,
    }
    if package.shape is Shape.THIN:
        document["external"] = {
            "blobs": len(package.blobs or {}),
            "bytes": package.sealed.manifest.content_bytes,
            "folders": list(package.hints.folders),
            "servers": list(package.hints.servers),
        }
    return document
