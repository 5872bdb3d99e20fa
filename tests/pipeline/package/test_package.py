"""Packages as a whole: made alike everywhere, unpacked as they were, refused when one bit is another."""

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings

from pipeline import minisign
from pipeline.minisign import emit_public_key
from pipeline.package import hints
from pipeline.package.compression import Compression
from pipeline.package.create import (
    Description,
    Encoding,
    Format,
    create_from_cas,
    create_from_folder,
    sign,
)
from pipeline.package.describe import describe, describe_encoding
from pipeline.package.directory import add_directory, survey
from pipeline.package.errors import Category, Diagnostic, PackageError
from pipeline.package.folder_cas import FolderCas
from pipeline.package.manifest import Dependency, Output
from pipeline.package.native import BLOCK_BYTES, NativePackage, Shape
from pipeline.package.portable import PortablePackage
from pipeline.package.read import open_package, unpack, verify_content
from pipeline.package.sealed import Answer, judge
from pipeline.package.sources import CasSource, FolderSource
from pipeline.values import Digest, Platform
from tests.support.build_package import (
    ENCODINGS,
    KEY,
    NOTES,
    OTHER_KEY,
    SMALL,
    Content,
    folders,
    packed,
    read_folder,
    write_folder,
)
from tests.support.programs import require_program

REPOSITORY = Path(__file__).resolve().parents[3]
THIN = Encoding(Format.NATIVE, Shape.THIN, Compression.NONE)
METADATA = Encoding(Format.NATIVE, Shape.METADATA, Compression.NONE)
LONG = "a folder with a long name/" * 5
UNUSUAL: dict[str, Content] = {
    LONG + "файл": b"beyond ASCII",
    LONG + "f" * 100: ("x", b"long"),
    LONG + "l": "f" * 100,
    "é": "файл" * 20,
    "файл" * 20: b"the target of a link beyond ASCII",
    "x" * 100: b"just fits",
    "-rf": b"",
    "new\\nline": b"",
}


def named(encoding: Encoding) -> str:
    return f"{encoding.format}-{encoding.shape}-{encoding.compression}"


def failure(ask: Callable[..., object], *arguments: object) -> PackageError:
    with pytest.raises(PackageError) as caught:
        ask(*arguments)
    return caught.value


# A flipped bit can also make the number of another version out of this one.
REFUSED = (Category.MALFORMED, Category.UNSUPPORTED)
every_encoding = pytest.mark.parametrize("encoding", ENCODINGS, ids=named)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("small") / "folder", SMALL)


# -- there and back -----------------------------------------------------------------------------


@every_encoding
@settings(max_examples=15, deadline=None)
@given(content=folders())
def test_what_is_packed_is_unpacked(encoding: Encoding, content: dict[str, Content]):
    with tempfile.TemporaryDirectory() as place:
        folder = write_folder(Path(place) / "folder", content)
        data, made = packed(folder, encoding)
        verify_content(io.BytesIO(data))
        unpack(io.BytesIO(data), Path(place) / "out")
        assert read_folder(Path(place) / "out") == content
        assert survey(Path(place) / "out")[0].id == made.manifest.tree.id


@every_encoding
def test_content_of_several_blocks_with_files_across_their_ends(encoding: Encoding, tmp_path: Path):
    content = {
        "a": os.urandom(BLOCK_BYTES - 10),
        "b": b"across the end of a block",
        "c": bytes(2 * BLOCK_BYTES),
        "d": b"d",
        "e": os.urandom(100),
    }
    folder = write_folder(tmp_path / "folder", content)
    data, _ = packed(folder, encoding, threads=3)
    assert packed(folder, encoding, threads=1)[0] == data
    unpack(io.BytesIO(data), tmp_path / "out")
    assert read_folder(tmp_path / "out") == content


@every_encoding
def test_unusual_names_come_back(encoding: Encoding, tmp_path: Path):
    data, _ = packed(write_folder(tmp_path / "folder", UNUSUAL), encoding)
    unpack(io.BytesIO(data), tmp_path / "out")
    assert read_folder(tmp_path / "out") == UNUSUAL


@every_encoding
def test_an_empty_folder_is_a_package_too(encoding: Encoding, tmp_path: Path):
    data, _ = packed(write_folder(tmp_path / "folder", {}), encoding)
    verify_content(io.BytesIO(data))
    unpack(io.BytesIO(data), tmp_path / "out")
    assert read_folder(tmp_path / "out") == {}


def test_a_manifest_tells_what_was_said_and_what_follows(small: Path):
    said = Description(
        "notes",
        "1.4.0",
        outputs=(Output("bin", "bin"),),
        artifacts=(("share/readme.txt", Platform.ANY, "noarch"),),
        dependencies=(Dependency("zlib", "1.3", Digest("a" * 64)),),
        metadata=(("k", "v"),),
    )
    data, made = packed(small, description=said)
    told = describe(open_package(io.BytesIO(data)))
    assert told["manifest"]["artifacts"][0]["size"] == 2400
    assert told["manifest"]["tree"] == survey(small)[0].id
    assert told["manifest"]["content_bytes"] == 2400 + len(SMALL["bin/notes"][1])
    assert told["signature"]["trusted_comment"] == f"dist-package notes 1.4.0 tree:{made.manifest.tree.id}"
    assert told["signature"]["public_key"] == KEY.public.line


@pytest.mark.parametrize(
    "said",
    [
        Description("Notes", "1"),
        Description("notes", "1", outputs=(Output("bin", "nothing"),)),
        Description("notes", "1", artifacts=(("nothing", Platform.ANY, "noarch"),)),
        Description("notes", "1", artifacts=(("bin/n", Platform.ANY, "noarch"),)),
    ],
)
def test_what_cannot_be_packed_is_invalid(small: Path, said: Description):
    assert failure(lambda: packed(small, description=said)).category is Category.INVALID


@pytest.mark.parametrize(
    "encoding",
    [
        Encoding(Format.PORTABLE, Shape.THIN, Compression.DEFLATE),
        Encoding(Format.PORTABLE, Shape.FAT, Compression.ZSTD),
        Encoding(Format.NATIVE, Shape.FAT, Compression.NONE, hints.make(servers=("https://dist.example",))),
    ],
    ids=named,
)
def test_an_encoding_that_there_is_not_is_invalid(small: Path, encoding: Encoding):
    assert failure(lambda: packed(small, encoding)).category is Category.INVALID


@every_encoding
def test_a_file_that_changes_while_it_is_packed_is_refused(encoding: Encoding, tmp_path: Path):
    folder = write_folder(tmp_path / "folder", {"a": b"1"})
    os.utime(folder / "a", (10**9, 10**9))

    class Changing(io.BytesIO):
        def write(self, data) -> int:
            (folder / "a").write_bytes(b"2")
            return super().write(data)

    error = failure(lambda: create_from_folder(Changing(), folder, NOTES, encoding=encoding))
    assert error.category is Category.MALFORMED
    assert "it changed while it was" in str(error)


# -- the same bytes -----------------------------------------------------------------------------


@every_encoding
def test_a_store_gives_the_same_package_as_the_folder(encoding: Encoding, small: Path, tmp_path: Path):
    cas, out = FolderCas(tmp_path / "cas"), io.BytesIO()
    tree = add_directory(cas, small)
    create_from_cas(out, cas, tree.id, NOTES, encoding=encoding, key=KEY)
    assert out.getvalue() == packed(small, encoding)[0]


PROGRAM = """
import os, sys
from pathlib import Path
place, umask, backwards, user = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1", int(sys.argv[4])
os.umask(umask)
if backwards:
    import contextlib
    real = os.scandir
    os.scandir = lambda path: contextlib.nullcontext(sorted(real(path), key=lambda row: row.name, reverse=True))
from tests.support.build_package import ENCODINGS, packed
os.chdir(place)
if user:
    os.setgid(user)
    os.setuid(user)
for number, encoding in enumerate(ENCODINGS):
    Path(f"{number}.out").write_bytes(packed(Path("folder"), encoding, threads=1 + backwards)[0])
"""


def test_another_place_day_user_umask_locale_and_order_give_the_same_bytes(tmp_path: Path):
    """Another user it is where root runs the tests."""
    runs = [
        ("first", "022", {"LC_ALL": "C", "TZ": "UTC", "HOME": "/", "PYTHONHASHSEED": "1"}, 0, "0"),
        ("a much longer place/below", "077", {"LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo", "HOME": str(tmp_path), "PYTHONHASHSEED": "2"},
         10**9, "1"),
    ]  # fmt: skip
    made = []
    for name, umask, environ, day, backwards in runs:
        place = tmp_path / name
        folder = write_folder(place / "folder", SMALL | UNUSUAL)
        user = 1234 if os.getuid() == 0 and day else 0
        for path in [place, folder, *folder.rglob("*")]:
            os.utime(path, (day, day), follow_symlinks=False)
            if user:
                os.chown(path, user, user, follow_symlinks=False)
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(place), str(int(umask, 8)), backwards, str(user)],
            env=environ,
            cwd=REPOSITORY,
            check=True,
            timeout=60,
        )
        made.append([(place / f"{number}.out").read_bytes() for number in range(len(ENCODINGS))])
    assert made[0] == made[1]


def test_every_format_shape_and_compression_has_the_same_manifest_and_signature(small: Path):
    assert len({packed(small, encoding)[1] for encoding in [*ENCODINGS, THIN, METADATA]}) == 1


@pytest.mark.parametrize("encoding", [*ENCODINGS, THIN, METADATA], ids=named)
def test_signing_afterwards_or_again_gives_the_bytes_of_signing_at_once(encoding: Encoding, small: Path):
    at_once, _ = packed(small, encoding)
    for before in (None, OTHER_KEY):
        out = io.BytesIO()
        sign(io.BytesIO(packed(small, encoding, key=before)[0]), out, KEY)
        assert out.getvalue() == at_once


def test_a_damaged_package_is_not_signed(small: Path):
    data = bytearray(packed(small, ENCODINGS[1])[0])
    data[-50] ^= 1
    assert failure(lambda: sign(io.BytesIO(data), io.BytesIO(), KEY)).category is Category.MALFORMED


# -- one bit ------------------------------------------------------------------------------------


def places_of(package: NativePackage, offset: int) -> list[str]:
    """What a diagnostic has to name, one or the other, for damage at this offset."""
    region = next((one for one in package.regions if one.offset <= offset < one.offset + one.size), None)
    if region is None:
        return ["head"]
    if region.tag == "SIGN":  # it may be missing, so another tag there stands in the place of what follows
        return ["region SIGN", f"at byte {region.offset}"]
    return ["region DATA", "block "] if region.tag == "DATA" else [f"region {region.tag}"]


@pytest.mark.parametrize("encoding", [*ENCODINGS[1:], THIN, METADATA], ids=named)
def test_a_flipped_bit_of_a_native_package_is_refused_where_it_is(encoding: Encoding):
    """Each byte of a package: one bit of it, a different one from byte to byte."""
    original = native_bytes(encoding)
    package = NativePackage(io.BytesIO(original))
    for offset in range(len(original)):
        changed = bytearray(original)
        changed[offset] ^= 1 << offset % 8
        error = failure(verify_content, io.BytesIO(changed))
        assert error.category in REFUSED
        places = places_of(package, offset)
        assert any(place in str(error) for place in places), (offset, places, str(error))


def test_a_flipped_bit_of_a_portable_package_is_refused():
    original = native_bytes(ENCODINGS[0])
    for offset in range(len(original)):
        changed = bytearray(original)
        changed[offset] ^= 1 << offset % 8
        error = failure(verify_content, io.BytesIO(changed))
        assert error.category in REFUSED
        assert ": " in str(error) or "compressed data" in str(error) or "end of the archive" in str(error)


@pytest.mark.parametrize("encoding", [*ENCODINGS, THIN, METADATA], ids=named)
def test_a_package_that_is_cut_off_or_followed_by_something_is_refused(encoding: Encoding):
    original = native_bytes(encoding)
    for end in [*range(0, len(original), 97), len(original) - 1]:
        assert failure(verify_content, io.BytesIO(original[:end])).category is Category.MALFORMED
    for more in (b"\0", b"x", original):
        assert failure(verify_content, io.BytesIO(original + more)).category is Category.MALFORMED


def native_bytes(encoding: Encoding) -> bytes:
    if encoding not in _MADE:
        with tempfile.TemporaryDirectory() as place:
            _MADE[encoding] = packed(write_folder(Path(place) / "folder", SMALL), encoding)[0]
    return _MADE[encoding]


_MADE: dict[Encoding, bytes] = {}


@every_encoding
def test_damage_leaves_no_target(encoding: Encoding, tmp_path: Path):
    data = bytearray(native_bytes(encoding))
    data[-45] ^= 4
    heard: list[Diagnostic] = []
    error = failure(lambda: unpack(io.BytesIO(data), tmp_path / "out", sink=heard.append))
    assert error.category is Category.MALFORMED
    assert heard == [error.diagnostic]
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_lies_about_chunks_is_found_though_the_blobs_are_right(tmp_path: Path):
    """Its author signs what they like; whoever verifies a part later must not be led astray."""
    from pipeline.package import chunks, manifest, native
    from pipeline.package.blob import BlobInfo, blob_id
    from pipeline.package.sealed import open_sealed, seal

    tree, infos = survey(write_folder(tmp_path / "folder", {"a": b"right"}))
    (blob,) = tree.blobs
    index = chunks.emit(tree, {blob: BlobInfo(blob, 5, (bytes(32),))})
    said = manifest.Manifest(
        "notes", "1", manifest.Text(tree.id, len(tree.data)), manifest.Text(blob_id(index), len(index)), 5
    )
    text, out = manifest.emit(said), io.BytesIO()
    native.write(
        out,
        open_sealed(text, seal(text, KEY)),
        shape=Shape.FAT,
        compression=Compression.NONE,
        tree=tree,
        index=index,
        hints=hints.NO_HINTS,
        blocks=[b"right"],
    )
    assert infos[blob].leaves != (bytes(32),)
    assert str(failure(lambda: verify_content(out))) == "blob root mismatch for: a"


def test_every_damaged_file_is_told(tmp_path: Path):
    content = {name: os.urandom(BLOCK_BYTES) for name in "abc"}
    data, _ = packed(write_folder(tmp_path / "folder", content), ENCODINGS[1])
    package = NativePackage(io.BytesIO(data))
    changed = bytearray(data)
    changed[package.blocks[0].offset] ^= 1
    changed[package.blocks[2].offset] ^= 1
    heard: list[Diagnostic] = []
    failure(lambda: verify_content(io.BytesIO(changed), sink=heard.append))
    assert [one.text for one in heard] == ["block 0: it is damaged", "block 2: it is damaged"]


def test_a_block_that_unpacks_to_more_or_less_than_it_should_is_refused(tmp_path: Path):
    from pipeline.package.compression import compress, decompress

    for compression in (Compression.DEFLATE, Compression.LZ4, Compression.ZSTD):
        stored = compress(bytes(5000), compression)
        assert decompress(stored, compression, 5000, "here") == bytes(5000)
        for wrong in (4999, 5001, len(stored) + 1, 1 << 20):
            assert "here" in str(failure(decompress, stored, compression, wrong, "here"))
        assert "here" in str(failure(decompress, stored + b"x", compression, 5000, "here"))
        assert "here" in str(failure(decompress, stored[:-1], compression, 5000, "here"))


# -- shapes -------------------------------------------------------------------------------------


def test_a_package_of_its_manifest_only_is_verified_and_cannot_be_unpacked(small: Path, tmp_path: Path):
    data, made = packed(small, METADATA)
    assert verify_content(io.BytesIO(data)).sealed == made
    assert failure(lambda: unpack(io.BytesIO(data), tmp_path / "out")).category is Category.INVALID


def test_a_thin_package_takes_its_content_from_wherever_it_is(small: Path, tmp_path: Path):
    data, _ = packed(small, THIN)
    assert len(data) < 2400
    verify_content(io.BytesIO(data))
    missing = failure(lambda: unpack(io.BytesIO(data), tmp_path / "out"))
    assert missing.category is Category.NOT_FOUND
    assert "bin/notes" in str(missing)
    verify_content(io.BytesIO(data), sources=[FolderSource(small)])
    unpack(io.BytesIO(data), tmp_path / "out", sources=[FolderSource(small)])
    assert read_folder(tmp_path / "out") == SMALL


def test_the_content_of_a_thin_package_is_verified_wherever_it_is(small: Path, tmp_path: Path):
    data, _ = packed(small, THIN)
    wrong = write_folder(
        tmp_path / "wrong", SMALL | {"share/readme.txt": b"X" * 2400, "share/copy.txt": b"X" * 2400}
    )
    error = failure(lambda: verify_content(io.BytesIO(data), sources=[FolderSource(wrong)]))
    assert str(error) == f"blob digest mismatch for: share/copy.txt (from {wrong})"
    cas = FolderCas(tmp_path / "cas")
    assert "blob missing" in str(
        failure(lambda: verify_content(io.BytesIO(data), sources=[CasSource(cas, "x")]))
    )


def test_what_a_fat_package_lacks_is_not_made_up_for_from_elsewhere(small: Path, tmp_path: Path):
    changed = bytearray(packed(small, ENCODINGS[1])[0])
    changed[-50] ^= 1
    source = FolderSource(small)
    assert (
        failure(lambda: unpack(io.BytesIO(changed), tmp_path / "out", sources=[source])).category
        is Category.MALFORMED
    )


def test_hints_of_a_thin_package_are_shown(small: Path):
    told = hints.make(folders=("b", "a/c"), servers=("https://dist.example/x",))
    data, _ = packed(small, Encoding(Format.NATIVE, Shape.THIN, Compression.NONE, told))
    package = open_package(io.BytesIO(data))
    assert package.hints == told
    external = describe_encoding(package)["external"]
    assert external == {
        "blobs": 3,
        "bytes": 2421,
        "folders": ["a/c", "b"],
        "servers": ["https://dist.example/x"],
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"folders": ("/etc",)},
        {"folders": ("../x",)},
        {"servers": ("file:///etc",)},
        {"servers": ("https://u@x",)},
        {"servers": ("http://[",)},
    ],
    ids=str,
)
def test_a_hint_that_leads_astray_is_none(wrong: dict[str, tuple[str, ...]]):
    assert failure(lambda: hints.make(**wrong)).category is Category.INVALID
    rows = [f"{kind[:-1]}\t{value}\n" for kind, values in wrong.items() for value in values]
    assert (
        failure(lambda: hints.parse(f"dist-sources 1\n{''.join(rows)}".encode())).category
        is Category.MALFORMED
    )


def test_the_encoding_is_told(small: Path):
    told = describe_encoding(open_package(io.BytesIO(packed(small, ENCODINGS[-1])[0])))
    assert [region["tag"] for region in told["regions"]] == ["MANI", "SIGN", "PKEY", "TREE", "CHNK", "DATA"]
    assert sum(region["bytes"] for region in told["regions"]) + 44 == len(packed(small, ENCODINGS[-1])[0])
    assert [block["bytes"] for block in told["blocks"]] == [2421]
    assert [row["chunks"] for row in told["chunk_index"]] == [1, 1, 0]


# -- other hands --------------------------------------------------------------------------------


def test_gnu_tar_unpacks_a_portable_package_without_a_word(tmp_path: Path):
    folder = write_folder(tmp_path / "folder", SMALL | UNUSUAL)
    data, made = packed(folder, ENCODINGS[0])
    file = tmp_path / "notes.tar.gz"
    file.write_bytes(data)
    done = subprocess.run(
        ["tar", "-xzf", str(file), "-C", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout + done.stderr == ""
    assert read_folder(tmp_path / "notes-1.4.0") == SMALL | UNUSUAL
    assert survey(tmp_path / "notes-1.4.0")[0].id == made.manifest.tree.id
    about = tmp_path / "notes-1.4.0.dist-package"
    assert sorted(path.name for path in about.iterdir()) == [
        "chunks",
        "key.pub",
        "manifest",
        "manifest.minisig",
        "tree",
    ]
    require_program("minisign")
    done = subprocess.run(
        ["minisign", "-V", "-m", str(about / "manifest"), "-p", str(about / "key.pub")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"tree:{made.manifest.tree.id}" in done.stdout
    subprocess.run(["gzip", "-t", str(file)], timeout=30, check=True)


def test_pythons_tarfile_reads_sizes_of_more_than_eleven_digits_as_they_were_written():
    import tarfile

    from pipeline.package.portable import header
    from pipeline.package.tree import Mode

    for path, size, target in [("é" * 90, 8**11, ""), ("a", 8**11 - 1, ""), ("l" * 200, 0, "t" * 300)]:
        mode = Mode.LINK if target else Mode.EXECUTABLE
        raw = header(path, mode, size, target)
        with tarfile.open(fileobj=io.BytesIO(raw + bytes(1024)), mode="r:") as archive:
            found = archive.next()
        assert (found.name, found.size, found.linkname, found.mtime) == (path, size, target, 315532800)
        assert found.mode == (0o777 if target else 0o755)


def test_a_tar_of_another_tool_is_not_taken_for_a_package(small: Path, tmp_path: Path):
    subprocess.run(["tar", "-czf", str(tmp_path / "x.tar.gz"), "-C", str(small), "."], timeout=30, check=True)
    with (tmp_path / "x.tar.gz").open("rb") as file:
        assert failure(lambda: open_package(file)).category is Category.MALFORMED


def test_zstd_and_lz4_read_the_blocks(tmp_path: Path, small: Path):
    require_program("zstd")
    package = NativePackage(io.BytesIO(packed(small, ENCODINGS[-1])[0]))
    (stored,) = package.stored_blocks()
    done = subprocess.run(["zstd", "-dc"], input=stored, capture_output=True, timeout=30, check=True)
    assert done.stdout == package.block(0)


# -- trust --------------------------------------------------------------------------------------


def test_trust_is_asked_before_any_content_is_read(small: Path, tmp_path: Path):
    changed = bytearray(packed(small, ENCODINGS[1])[0])
    changed[-50] ^= 1

    class Distrusted(Exception):
        pass

    def decide(found) -> None:
        assert judge(found, emit_public_key(OTHER_KEY.public)).answer is Answer.WOULD_PIN
        raise Distrusted

    for ask in (
        lambda: verify_content(io.BytesIO(changed), decide=decide),
        lambda: unpack(io.BytesIO(changed), tmp_path / "out", decide=decide),
    ):
        with pytest.raises(Distrusted):
            ask()
    assert not (tmp_path / "out").exists()


def test_a_signature_taken_from_another_package_is_refused(tmp_path: Path):
    ours, made = packed(write_folder(tmp_path / "a", {"a": b"good"}), ENCODINGS[1])
    evil, _ = packed(write_folder(tmp_path / "b", {"a": b"evil"}), ENCODINGS[1], key=None)
    package, out = NativePackage(io.BytesIO(evil)), io.BytesIO()
    from pipeline.package import native
    from pipeline.package.sealed import Sealed

    native.write(
        out,
        Sealed(package.sealed.data, package.sealed.manifest, made.seal),
        shape=Shape.FAT,
        compression=Compression.NONE,
        tree=package.tree,
        index=package.index,
        hints=package.hints,
        blocks=package.stored_blocks(),
    )
    found = open_package(out)
    assert judge(found.sealed, emit_public_key(KEY.public)).answer is Answer.REFUSED
    assert judge(open_package(io.BytesIO(ours)).sealed, emit_public_key(KEY.public)).answer is Answer.TRUSTED
    assert isinstance(open_package(io.BytesIO(packed(tmp_path / "a", ENCODINGS[0])[0])), PortablePackage)
    assert minisign.shown_key_id(KEY.key_id) == "0807060504030201"


# -- one pass -----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("size", [100, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 7])
def test_files_with_the_same_bytes_are_stored_once_wherever_they_stand(
    tmp_path: Path, size: int, threads: int
):
    """Where they are is not known before, so the content has to be moved to the head, which is shorter than was thought."""
    same, other = os.urandom(size), os.urandom(size)
    content = {"a": same, "b": other, "c/same": same, "d": b"between", "e": other, "f": same}
    folder = write_folder(tmp_path / "folder", content)
    data, made = packed(folder, ENCODINGS[1], threads=threads)
    assert made.manifest.content_bytes == 2 * size + len(b"between")
    assert len(data) < 2 * size + 10_000
    verify_content(io.BytesIO(data))
    unpack(io.BytesIO(data), tmp_path / "out")
    assert read_folder(tmp_path / "out") == content
    cas, out = FolderCas(tmp_path / "cas"), io.BytesIO()
    create_from_cas(out, cas, add_directory(cas, folder).id, NOTES, encoding=ENCODINGS[1], key=KEY)
    assert out.getvalue() == data


def test_what_a_store_has_under_a_wrong_name_is_not_packed(tmp_path: Path, small: Path):
    cas = FolderCas(tmp_path / "cas")
    tree = add_directory(cas, small)
    path = cas.path(tree.find("share/readme.txt").blob)
    path.chmod(0o644)
    path.write_bytes(b"X" * 2400)
    for encoding in (*ENCODINGS, THIN):
        error = failure(lambda: create_from_cas(io.BytesIO(), cas, tree.id, NOTES, encoding=encoding))  # noqa: B023 - asked at once
        assert str(error) == "blob digest mismatch for: share/copy.txt"


def test_what_no_tree_can_have_is_refused_before_a_byte_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = write_folder(tmp_path / "folder", {"Readme": b"1", "README": b"2"})
    monkeypatch.setattr("pipeline.package.directory.open_regular", None)
    assert "in the way" in str(failure(lambda: packed(folder)))
    assert "in the way" in str(failure(lambda: add_directory(FolderCas(tmp_path / "cas"), folder)))
    assert not (tmp_path / "cas").exists()
