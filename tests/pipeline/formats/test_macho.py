"""Mach-O headers: what load commands say is read, what does not fit its file is refused."""

import struct

import pytest

from pipeline.formats.content import MemoryContent, StreamedContent
from pipeline.formats.facts import FormatError, Malformed, Unjudgeable
from pipeline.formats.macho import FileType, is_macho, read_macho
from tests.support.build_macho import fat, load_command, thin


def refusal(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        read_macho(MemoryContent(data))
    return caught.value.finding.rule


def test_a_thin_executable_says_what_it_was_built_for():
    found = read_macho(MemoryContent(thin(arch="arm64e", min_os=(11, 3))))
    assert not found.fat
    part = found.slices[0]
    assert (part.arch, part.cpu, part.file_type) == ("arm64e", "arm64", FileType.EXECUTE)
    assert (part.platform, part.min_os, part.sdk) == ("macos", "11.3", None)
    assert part.code_signature is not None
    assert part.code_signature.end == part.content.size


def test_an_older_version_command_says_the_platform_too():
    data = thin(commands=(load_command(0x25, struct.pack("<II", 9 << 16 | 3 << 8, 0)),))
    # The first command counts: a zippered library names macOS first.
    assert read_macho(MemoryContent(data)).slices[0].platform == "macos"


def test_each_slice_of_a_fat_file_is_read_by_itself():
    data = fat(thin(arch="x86_64"), thin(arch="arm64", min_os=(14, 0)), archs=("x86_64", "arm64"))
    found = read_macho(MemoryContent(data))
    assert found.fat
    assert found.archs == ["x86_64", "arm64"]
    assert [part.min_os for part in found.slices] == ["13.1", "14.0"]


def test_a_java_class_is_no_fat_file():
    assert not is_macho(b"\xca\xfe\xba\xbe\0\0\0\x34")
    assert not is_macho(b"\xca\xfe\xba\xbe")


def test_an_encrypted_range_counts_only_while_it_is_in_force():
    def encrypted(in_force: int) -> object:
        command = load_command(0x2C, struct.pack("<4I", 4096, 4096, in_force, 0))
        return read_macho(MemoryContent(thin(commands=(command,)))).slices[0].encrypted

    assert encrypted(0) is None
    assert encrypted(1) is not None


def test_an_info_plist_that_is_linked_in_is_found():
    section = struct.pack("<16s16sQQ8I", b"__info_plist", b"__TEXT", 0, 40, 200, 0, 0, 0, 0, 0, 0, 0)
    body = struct.pack("<16s4Q4I", b"__TEXT", 0, 0, 0, 4096, 0, 0, 1, 0) + section
    found = read_macho(MemoryContent(thin(commands=(load_command(0x19, body),)))).slices[0]
    assert found.info_plist is not None
    assert (found.info_plist.offset, found.info_plist.size) == (200, 40)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (16, 1 << 20),  # more commands than there is room for
        (20, 1 << 24),  # commands that leave the file
        (36, 0),  # a command without a size
        (36, 6),
        (36, 1 << 16),
    ],
)
def test_load_commands_that_do_not_fit_are_refused(offset, value):
    data = bytearray(thin())
    struct.pack_into("<I", data, offset, value)
    with pytest.raises(FormatError):
        read_macho(MemoryContent(bytes(data)))


def test_a_signature_beyond_the_end_is_refused():
    assert refusal(thin()[:-100]) == "macho.malformed"


def test_two_signatures_are_refused():
    assert refusal(thin(commands=(load_command(0x1D, struct.pack("<II", 64, 64)),))) == "macho.malformed"


def test_slices_that_overlap_are_refused():
    data = bytearray(fat(thin(arch="x86_64"), thin(), archs=("x86_64", "arm64")))
    struct.pack_into(">I", data, 8 + 20 + 8, 8192)
    assert refusal(bytes(data)) == "macho.malformed"


def test_a_slice_beyond_the_end_is_refused():
    data = bytearray(fat(thin(), archs=("arm64",)))
    struct.pack_into(">I", data, 8 + 12, 1 << 30)
    assert refusal(bytes(data)) == "macho.malformed"


def test_a_streamed_file_reads_like_one_in_memory():
    data = fat(thin(arch="x86_64"), thin(), archs=("x86_64", "arm64"))
    streamed = StreamedContent(len(data), lambda: (data[at : at + 1000] for at in range(0, len(data), 1000)))
    assert read_macho(streamed).archs == ["x86_64", "arm64"]
    assert streamed.at(5000, 3000) == data[5000:8000]
    assert streamed.at(0, 10) == data[:10]
    assert b"".join(streamed.chunks(chunk=777)) == data
    assert streamed.window(100, 50).at(10, 20) == data[110:130]


def test_a_stream_that_ends_early_is_refused():
    with pytest.raises(Malformed):
        StreamedContent(100, lambda: iter((b"x" * 50,))).at(10, 80)


def test_going_back_in_a_stream_has_a_limit(monkeypatch):
    monkeypatch.setattr("pipeline.formats.content.REREAD_BUDGET_BYTES", 1000)
    streamed = StreamedContent(400, lambda: iter((b"x" * 400,)))
    streamed.at(300, 10)
    streamed.at(0, 10)
    streamed.at(300, 10)
    with pytest.raises(Unjudgeable):
        streamed.at(0, 10)
