"""Everything that inspections share, done once: for the starter, before it forks. Nothing of any file is read here.

Left to others: when to fork (`child.py`).
"""

import gc

from cryptography.hazmat.backends import default_backend
from PIL import Image

from pipeline.formats import roots
from pipeline.formats.readers import READERS


def preload() -> None:
    """Import all readers, parse the pinned roots, and settle memory so that children share its pages."""
    for reader in READERS.values():
        reader.preload()
    roots.apple_roots()
    roots.microsoft_roots()
    Image.init()
    default_backend()
    gc.collect()
    gc.freeze()  # what is here now stays: a collection in a child would copy all of it
