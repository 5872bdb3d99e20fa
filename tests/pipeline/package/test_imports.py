"""What an import of the content model brings along, in a fresh interpreter: no crypto, no compression, no other part of ours."""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
CONTENT = ["blob", "cas", "directory", "errors", "files", "folder_cas", "materialise", "sources", "tree", "tree_paths", "cas_commands"]  # fmt: skip
PROGRAM = """
import json, sys
before = set(sys.modules)
for name in sys.argv[1:]:
    __import__(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""
HEAVY = {
    "cryptography",
    "lz4",
    "backports",
    "compression",
    "zlib",
    "bz2",
    "lzma",
    "_bz2",
    "_lzma",
    "_zstd",
    "nacl",
    "ssl",
    "socket",
}


def imported_by(*names: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, *names],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_the_content_model_needs_no_crypto_and_no_compression_library():
    found = imported_by(*(f"pipeline.package.{name}" for name in CONTENT))
    assert "pipeline.package.tree" in found
    assert HEAVY & {name.partition(".")[0] for name in found} == set()


def test_of_ours_it_needs_values_errors_the_arithmetic_of_trees_and_how_to_sync():
    found = {
        name
        for name in imported_by(*(f"pipeline.package.{name}" for name in CONTENT))
        if name.startswith("pipeline.") and not name.startswith("pipeline.package")
    }
    assert found == {"pipeline.durable", "pipeline.errors", "pipeline.values", "pipeline.merkle"}


def test_no_module_of_the_library_reads_the_environment_a_clock_or_chance():
    forbidden = ["os.environ", "os.getenv", "Path.home", "expanduser", "time.time", "datetime.now", "urandom", "utc_now", "import random",
                 "import secrets", "import socket", "import tempfile", "import logging", "print("]  # fmt: skip
    for path in (REPOSITORY / "pipeline/package").glob("*.py"):
        text = path.read_text()
        assert [word for word in forbidden if word in text] == [], path.name
