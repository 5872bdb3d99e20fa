"""minisign: files are parsed, and a signature holds only with its key, its message and its trusted comment."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import minisign
from pipeline.formats.facts import Malformed, SignatureStatus, Unjudgeable, Verdict
from pipeline.formats.minisign import parse_public_key, parse_signature, verify
from tests.support.fixtures import fixture, index
from tests.support.judged import judged, judged_at, rules_of
from tests.support.source_of import source_at

ROWS = index(format="minisign")
REASONS = {"tampered": minisign.BAD_COMMENT, "wrong-key": minisign.WRONG_KEY}

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEY_ID = bytes(range(8))
KEY = minisign.PublicKey(KEY_ID, PRIVATE.public_key().public_bytes_raw())
KEY_TEXT = base64.b64encode(b"Ed" + KEY_ID + KEY.key)


def signed(message, *, algorithm=b"ED", comment=b"timestamp:1614549543\tfile:a.txt"):
    signature = PRIVATE.sign(hashlib.blake2b(message).digest() if algorithm == b"ED" else message)
    lines = [
        b"untrusted comment: made by a test",
        base64.b64encode(algorithm + KEY_ID + signature),
        b"trusted comment: " + comment,
        base64.b64encode(PRIVATE.sign(signature + comment)),
    ]
    return b"\n".join(lines) + b"\n"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["path"])
def test_known_fixtures_with_their_key_and_file(row):
    fields = row["expected"]["fields"]
    key = parse_public_key(fields["public_key"].encode())
    signature = parse_signature(fixture(row["path"]).read_bytes())
    with source_at(fixture(fields["signed_file"])) as message:
        answer = verify(key, signature, message.chunks())
    assert answer is (None if row["expected"]["verdict"] == "accept" else REASONS[row["expected"]["reason"]])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["path"])
def test_known_fixtures_alone_are_described_and_unverified(row):
    report = judged_at(minisign.read, fixture(row["path"]))
    assert report.verdict is Verdict.ACCEPTED
    assert report.signature.status is SignatureStatus.UNVERIFIED
    if "algorithm" in row["expected"]["fields"]:
        assert report.details["algorithm"] == row["expected"]["fields"]["algorithm"]


def test_what_is_told():
    report = judged(minisign.read, signed(b"x").replace(b"\n", b"\r\n"))
    assert report.details == {
        "kind": "signature",
        "algorithm": "ED (prehashed)",
        "key_id": "0706050403020100",
        "untrusted_comment": "made by a test",
        "trusted_comment": "timestamp:1614549543\tfile:a.txt",
        "timestamp": "2021-02-28T21:59:03Z",
        "file": "a.txt",
    }


@pytest.mark.parametrize("text", [KEY_TEXT, b"untrusted comment: minisign public key\n" + KEY_TEXT + b"\n"])
def test_public_key_with_and_without_its_comment(text):
    assert parse_public_key(text) == KEY


def test_public_key_file_is_described():
    report = judged(minisign.read, b"untrusted comment: key\n" + KEY_TEXT + b"\n")
    assert report.details["kind"] == "public-key"
    assert report.verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("algorithm", [b"ED", b"Ed"])
def test_either_kind_of_signature(algorithm):
    signature = parse_signature(signed(b"a message", algorithm=algorithm))
    assert verify(KEY, signature, [b"a ", b"message"]) is None
    assert verify(KEY, signature, [b"a massage"]) is minisign.BAD_SIGNATURE
    other = minisign.PublicKey(bytes(8), KEY.key)
    assert verify(other, signature, [b"a message"]) is minisign.WRONG_KEY
    same_id = minisign.PublicKey(KEY_ID, Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    assert verify(same_id, signature, [b"a message"]) is minisign.BAD_SIGNATURE


def test_changed_trusted_comment():
    signature = parse_signature(signed(b"x").replace(b"file:a.txt", b"file:b.txt"))
    assert verify(KEY, signature, [b"x"]) is minisign.BAD_COMMENT


def test_kind_cannot_be_swapped():
    lines = signed(b"x").split(b"\n")
    raw = base64.b64decode(lines[1])
    lines[1] = base64.b64encode(b"Ed" + raw[2:])
    assert verify(KEY, parse_signature(b"\n".join(lines)), [b"x"]) is minisign.BAD_SIGNATURE


def test_old_kind_over_a_file_that_is_too_large(monkeypatch):
    monkeypatch.setattr("pipeline.minisign.WHOLE_MESSAGE_MAX_BYTES", 10)
    with pytest.raises(Unjudgeable):
        verify(KEY, parse_signature(signed(b"x" * 11, algorithm=b"Ed")), [b"x" * 11])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"untrusted comment: x\n",
        signed(b"x").rsplit(b"\n", 2)[0],
        signed(b"x").replace(b"untrusted", b"trusted"),
        signed(b"x").replace(b"\ntrusted comment: ", b"\ncomment: "),
        signed(b"x", algorithm=b"XX"),
        signed(b"x") + b"more\n",
        b"\n".join([*signed(b"x").split(b"\n")[:3], b"AAAA"]),
        b"\n".join([*signed(b"x").split(b"\n")[:3], b"not base 64!"]),
        signed(b"x", comment=b"c" * 20_000),
        b"untrusted comment: key\n" + base64.b64encode(b"XX" + bytes(40)),
        b"other comment: key\n" + KEY_TEXT,
    ],
)
def test_malformed_file_is_rejected(data):
    assert rules_of(judged(minisign.read, data)) == {"minisign.malformed"}


def test_key_of_a_wrong_size():
    with pytest.raises(Malformed):
        parse_public_key(base64.b64encode(b"Ed" + bytes(39)))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_signature_never_raises_and_never_holds(data):
    original = signed(b"message")
    mutated = bytearray(original)
    at = data.draw(st.integers(0, len(mutated) - 1))
    mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    judged(minisign.read, bytes(mutated))
    try:
        signature = parse_signature(bytes(mutated))
    except Malformed:
        return
    whole = parse_signature(original)
    untouched = (signature.algorithm, signature.key_id, signature.signature, signature.trusted_comment, signature.comment_signature) == (
        whole.algorithm, whole.key_id, whole.signature, whole.trusted_comment, whole.comment_signature)  # fmt: skip
    assert (verify(KEY, signature, [b"message"]) is None) is untouched
