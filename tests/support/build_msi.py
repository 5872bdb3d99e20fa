"""Builds small Windows Installer databases: compound file, string pool, Property table, summary information, signature."""

import hashlib
import struct
from collections.abc import Mapping
from typing import Any

from tests.support import build_authenticode as authenticode

SECTOR = 512
MINI = 64
CUTOFF = 4096
END = 0xFFFFFFFE
FAT_SECTOR = 0xFFFFFFFD
DIFAT_SECTOR = 0xFFFFFFFC
HEADER_DIFAT = 109
DIFAT_ENTRIES = 127
NONE = 0xFFFFFFFF
PACKAGE_CLSID = bytes.fromhex("84100c0000000000c000000000000046")
PATCH_CLSID = bytes.fromhex("86100c0000000000c000000000000046")
TIMES = bytes(range(16))

PROPERTIES = {
    "ProductName": "Tiny",
    "ProductVersion": "1.2.3",
    "ProductCode": "{01234567-89AB-CDEF-0123-456789ABCDEF}",
    "UpgradeCode": "{FEDCBA98-7654-3210-FEDC-BA9876543210}",
    "Manufacturer": "Tiny, Inc",
    "ProductLanguage": "1033",
    "ALLUSERS": "1",
}
NAMES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._"

Tree = Mapping[str, Any]  # name → bytes, or a storage: (clsid, Tree)


def compound(tree: Tree, clsid: bytes = PACKAGE_CLSID) -> bytes:
    """A compound file of version 3 with these streams and storages."""
    entries: list[list[Any]] = [["Root Entry", 5, clsid, NONE, NONE, 0, b""]]
    _add(entries, 0, tree)
    mini = b""
    mini_fat: list[int] = []
    sectors: list[bytes] = []
    fat: list[int] = []

    def chain(content: bytes) -> int:
        start, count = len(sectors), -(-len(content) // SECTOR)
        for index in range(count):
            sectors.append(content[index * SECTOR : (index + 1) * SECTOR].ljust(SECTOR, b"\0"))
            fat.append(start + index + 1 if index + 1 < count else END)
        return start if count else END

    starts = {}
    for number, entry in enumerate(entries):
        content = entry[6]
        if entry[1] != 2 or not content:
            starts[number] = END if entry[1] == 2 else 0
        elif len(content) >= CUTOFF:
            starts[number] = chain(content)
        else:
            starts[number] = len(mini_fat)
            count = -(-len(content) // MINI)
            mini_fat += [len(mini_fat) + index + 1 for index in range(count - 1)] + [END]
            mini += content + bytes(-len(content) % MINI)
    starts[0] = chain(mini)
    mini_table = struct.pack(f"<{len(mini_fat)}I", *mini_fat)
    mini_start = chain(mini_table)
    directory = b"".join(
        _entry(entry, starts[number], len(mini) if number == 0 else len(entry[6]))
        for number, entry in enumerate(entries)
    )
    directory_start = chain(directory)
    fat_sectors = difat_sectors = 0
    while (len(fat) + fat_sectors + difat_sectors) * 4 > fat_sectors * SECTOR:
        fat_sectors += 1
        difat_sectors = -(-max(0, fat_sectors - HEADER_DIFAT) // DIFAT_ENTRIES)
    first = len(sectors)
    fat += [FAT_SECTOR] * fat_sectors + [DIFAT_SECTOR] * difat_sectors
    table = struct.pack(f"<{len(fat)}I", *fat)
    table += b"\xff" * (fat_sectors * SECTOR - len(table))
    numbers = [first + index for index in range(fat_sectors)]
    header = (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
        + struct.pack("<HHHHH6xI", 62, 3, 0xFFFE, 9, 6, 0)
        + struct.pack("<IIIIIIII", fat_sectors, directory_start, 0, CUTOFF, mini_start,
                      -(-len(mini_table) // SECTOR), first + fat_sectors if difat_sectors else END, difat_sectors)
    )  # fmt: skip
    header += b"".join(struct.pack("<I", number) for number in numbers[:HEADER_DIFAT])
    difat = b""
    for index in range(difat_sectors):
        row = numbers[HEADER_DIFAT + index * DIFAT_ENTRIES :][:DIFAT_ENTRIES]
        following = first + fat_sectors + index + 1 if index + 1 < difat_sectors else END
        difat += struct.pack("<128I", *row, *[NONE] * (DIFAT_ENTRIES - len(row)), following)
    return header.ljust(SECTOR, b"\xff") + b"".join(sectors) + table + difat


def _add(entries: list[list[Any]], parent: int, tree: Tree) -> None:
    """Hang the children below their parent, as a list of right siblings."""
    previous = None
    for name, value in tree.items():
        number = len(entries)
        if isinstance(value, bytes):
            entries.append([name, 2, bytes(16), NONE, NONE, NONE, value])
        else:
            entries.append([name, 1, value[0], NONE, NONE, NONE, b""])
        if previous is None:
            entries[parent][5] = number
        else:
            entries[previous][4] = number
        previous = number
        if not isinstance(value, bytes):
            _add(entries, number, value[1])
    if previous is None:
        entries[parent][5] = NONE


def _entry(entry: list[Any], start: int, size: int) -> bytes:
    name, kind, clsid, left, right, child, _content = entry
    raw = name.encode("utf-16-le") + b"\0\0"
    times = TIMES if kind != 5 else bytes(16)
    return (
        raw.ljust(64, b"\0")
        + struct.pack("<HBBIII", len(raw), kind, 1, left, right, child)
        + clsid
        + bytes(4)
        + times
        + struct.pack("<IQ", start, size)
    )


def stream_name(table: str) -> str:
    numbers = [NAMES.index(char) for char in table]
    pairs = zip(numbers[0::2], numbers[1::2], strict=False)
    units = [0x4840, *(0x3800 + first + (second << 6) for first, second in pairs)]
    if len(numbers) % 2:
        units.append(0x4800 + numbers[-1])
    return "".join(map(chr, units))


def tables(properties: Mapping[str, str], *, wide: bool = False, codepage: int = 1252) -> dict[str, bytes]:
    """The string pool and the Property table; `wide` uses references of three bytes."""
    strings = [text for pair in properties.items() for text in pair]
    data = b""
    pool = struct.pack("<HH", codepage, 0x8000 if wide else 0)
    references = {}
    for number, text in enumerate(strings, 1):
        raw = text.encode("utf-8" if codepage == 65001 else f"cp{codepage}")
        if len(raw) > 0xFFFF:
            pool += struct.pack("<HH", 0, len(raw) >> 16)
        pool += struct.pack("<HH", len(raw) & 0xFFFF, 1)
        data += raw
        references[number] = number.to_bytes(3 if wide else 2, "little")
    keys = b"".join(references[number] for number in range(1, len(strings) + 1, 2))
    values = b"".join(references[number] for number in range(2, len(strings) + 1, 2))
    return {
        stream_name("_StringPool"): pool,
        stream_name("_StringData"): data,
        stream_name("Property"): keys + values,
    }


def summary(values: Mapping[int, str | int]) -> bytes:
    """[MS-OLEPS]: a stream with one property set."""
    offset = 8 + 8 * len(values)
    index, body = b"", b""
    for identifier, value in values.items():
        index += struct.pack("<II", identifier, offset + len(body))
        if isinstance(value, int):
            body += struct.pack("<Ii", 3, value)
        else:
            raw = value.encode() + b"\0"
            body += struct.pack("<II", 30, len(raw)) + raw + bytes(-len(raw) % 4)
    section = struct.pack("<II", offset + len(body), len(values)) + index + body
    return struct.pack("<HHI16xI16xI", 0xFFFE, 0, 2, 1, 48) + section


def streams(properties: Mapping[str, str] | None = None, **how: Any) -> dict[str, Any]:
    """Everything that a database needs, and one large stream."""
    return {
        **tables(PROPERTIES if properties is None else properties, **how),
        "\x05SummaryInformation": summary({7: "x64;1033,1031", 9: "{PACKAGE}", 14: 500, 2: "Title"}),
        "Tiny.cab": bytes(range(256)) * 20,
        "Storage": (b"\x11" * 16, {"inner": b"nested", "deeper": (bytes(16), {"x": b""})}),
    }


def build(properties: Mapping[str, str] | None = None, **how: Any) -> bytes:
    return compound(streams(properties, **how))


def content_digest(tree: Tree, clsid: bytes, name: str, prefix: bytes = b"") -> bytes:
    state = hashlib.new(name, prefix)
    _hash_content(tree, clsid, state)
    return state.digest()


def _hash_content(tree: Tree, clsid: bytes, state: Any) -> None:
    for key in sorted(tree, key=lambda key: key.encode("utf-16-le")):
        if isinstance(tree[key], bytes):
            state.update(tree[key])
        else:
            _hash_content(tree[key][1], tree[key][0], state)
    state.update(clsid)


def metadata_digest(tree: Tree, clsid: bytes, name: str) -> bytes:
    state = hashlib.new(name, clsid + bytes(4))
    _hash_metadata(tree, state)
    return state.digest()


def _hash_metadata(tree: Tree, state: Any) -> None:
    for key in sorted(tree, key=lambda key: key.encode("utf-16-le")):
        value = tree[key]
        state.update(key.encode("utf-16-le"))
        state.update(struct.pack("<I", len(value)) if isinstance(value, bytes) else value[0])
        state.update(bytes(4) + TIMES)
        if not isinstance(value, bytes):
            _hash_metadata(value[1], state)


def signed(*, name: str = "sha256", extended: bool = False, **changes: bytes) -> bytes:
    """A signed database; `changes` replaces streams after signing."""
    tree = streams()
    prefix = metadata_digest(tree, PACKAGE_CLSID, name) if extended else b""
    digest = content_digest(tree, PACKAGE_CLSID, name, prefix)
    content = authenticode.indirect(digest, name=name, kind=authenticode.SPC_SIPINFO)
    tree["\x05DigitalSignature"] = authenticode.sign(content, name=name)
    if extended:
        tree["\x05MsiDigitalSignatureEx"] = prefix
    return compound({**tree, **changes})
