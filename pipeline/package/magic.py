r"""How the two kinds of package begin. Nothing else begins so: a tool that writes .tar.gz files has no reason for the extra field."""

import struct
from typing import Final

NATIVE: Final = b"\x89DPK\r\n\x1a\n"
# RFC 1952, 2.3: deflate, an extra field, no time, no name, system 255; the field is `DP` with a digest of 32 bytes.
PORTABLE: Final = bytes.fromhex("1f8b0804") + bytes(4) + b"\x00\xff" + struct.pack("<H2sH", 36, b"DP", 32)
