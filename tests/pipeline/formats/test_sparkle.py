"""Sparkle's signatures: Ed25519 over the whole update."""

import base64
import json
import mmap

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import sparkle
from pipeline.formats.facts import SignatureStatus, Verdict
from pipeline.formats.sparkle import parse, verify
from tests.support.fixtures import fixture, index
from tests.support.judged import judged, judged_at, rules_of

ROWS = index(format="sparkle-signature")
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEY = PRIVATE.public_key().public_bytes_raw()
MESSAGE = b"the update"


def document(**changes):
    told = {
        "file": "a.zip", "public_ed_key": base64.b64encode(KEY).decode(), "length": len(MESSAGE),
        "ed_signature": base64.b64encode(PRIVATE.sign(MESSAGE)).decode(), **changes,
    }  # fmt: skip
    return json.dumps({key: value for key, value in told.items() if value is not ...}).encode()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["path"])
def test_known_fixtures_with_their_file(row):
    signature = parse(fixture(row["path"]).read_bytes())
    with (
        fixture(row["expected"]["fields"]["file"]).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as message,
    ):
        answer = verify(signature, message)
    assert answer is (None if row["expected"]["verdict"] == "accept" else sparkle.BAD_SIGNATURE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["path"])
def test_known_fixtures_alone_are_described_and_unverified(row):
    report = judged_at(sparkle.read, fixture(row["path"]))
    assert report.verdict is Verdict.ACCEPTED
    assert report.signature.status is SignatureStatus.UNVERIFIED
    assert report.details == row["expected"]["fields"]


def test_signature_holds_for_its_message_and_key_only():
    signature = parse(document())
    assert verify(signature, MESSAGE) is None
    assert verify(signature, b"The update") is sparkle.BAD_SIGNATURE
    assert verify(signature, MESSAGE + b"x") is sparkle.WRONG_LENGTH
    assert verify(signature, MESSAGE, public_key=bytes(32)) is sparkle.BAD_SIGNATURE
    assert verify(parse(document(public_ed_key=...)), MESSAGE) is sparkle.NO_KEY


def test_names_of_an_appcast():
    told = json.loads(document())
    renamed = {
        "sparkle:edSignature": told["ed_signature"],
        "SUPublicEDKey": told["public_ed_key"],
        "length": str(told["length"]),
    }
    assert verify(parse(json.dumps(renamed).encode()), MESSAGE) is None


@pytest.mark.parametrize(
    "data",
    [
        document(ed_signature=...),
        document(ed_signature="AAAA"),
        document(ed_signature="?"),
        document(ed_signature=5),
        document(public_ed_key="AAAA"),
        document(length=-1),
        document(length=True),
        document(length="x"),
        document(edSignature="AAAA"),
        b"[]",
        document(file="x" * 100_000),
    ],
)
def test_malformed_document_is_rejected(data):
    assert rules_of(judged(sparkle.read, data)) == {"sparkle.malformed"}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_document_never_raises(data):
    mutated = bytearray(document())
    at = data.draw(st.integers(0, len(mutated) - 1))
    mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    judged(sparkle.read, bytes(mutated))
