"""Secret keys and signatures, with Debian's minisign as the other hand."""

import base64
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import minisign
from pipeline.minisign import (
    NotMinisign,
    WrongPassword,
    emit_public_key,
    emit_secret_key,
    generate,
    is_encrypted,
    parse_public_key,
    parse_secret_key,
    parse_signature,
    sign,
    verify,
)
from tests.support.programs import require_program

KEY = minisign.SecretKey(bytes(range(8)), bytes(range(32)))
# Less work than minisign asks for, so that a test may derive a key: N = 2**14, r = 8, p = 1.
LIGHT = {"opslimit": 1 << 19, "memlimit_bytes": 1 << 24}
# Made by minisign 0.11 with the password "correct horse".
MADE_BY_MINISIGN = (Path(__file__).parent / "minisign.key").read_bytes()
MADE_BY_MINISIGN_PUBLIC = (Path(__file__).parent / "minisign.pub").read_bytes()


def run(*words: object, typed: str = "") -> subprocess.CompletedProcess[str]:
    require_program("minisign")
    return subprocess.run(
        ["minisign", *map(str, words)], input=typed, capture_output=True, text=True, timeout=120, check=False
    )


def test_entropy_is_what_a_key_is_made_of():
    drawn = iter([b"k" * 8, b"s" * 32])
    assert generate(lambda _length: next(drawn)) == minisign.SecretKey(b"k" * 8, b"s" * 32)
    with pytest.raises(RuntimeError, match="entropy"):
        generate(lambda _length: b"short")


def test_a_key_never_shows_its_secret():
    assert str(KEY.seed) not in repr(KEY)


@pytest.mark.parametrize("password", [b"", b"correct horse", "pässwörd".encode()])
def test_a_secret_key_comes_back(password: bytes):
    text = emit_secret_key(KEY, password=password, salt=os.urandom(32), **LIGHT)
    assert is_encrypted(text) is bool(password)
    assert parse_secret_key(text, password=password) == KEY
    if password:
        for wrong in (b"", b"x", password + b"\n"):
            with pytest.raises(WrongPassword):
                parse_secret_key(text, password=wrong)


def test_a_key_of_minisign_is_opened_with_its_password():
    assert is_encrypted(MADE_BY_MINISIGN)
    key = parse_secret_key(MADE_BY_MINISIGN, password=b"correct horse")
    assert key.public == parse_public_key(MADE_BY_MINISIGN_PUBLIC)


@pytest.mark.parametrize(
    ("opslimit", "memlimit_bytes", "cost"),
    [
        (1 << 25, 1 << 30, (1 << 20, 8, 1)),  # libsodium's "sensitive": what minisign writes
        (1 << 19, 1 << 24, (1 << 14, 8, 1)),  # libsodium's "interactive"
        (1 << 25, 1 << 24, (1 << 14, 8, 64)),
        (1 << 20, 1 << 30, (1 << 15, 8, 1)),
        (0, 1 << 30, (1 << 10, 8, 1)),
    ],
)
def test_limits_are_costs_as_libsodium_has_them(
    opslimit: int, memlimit_bytes: int, cost: tuple[int, int, int]
):
    assert minisign._cost(opslimit, memlimit_bytes) == cost


def test_a_key_that_would_take_all_memory_is_refused():
    text = emit_secret_key(KEY, password=b"x", salt=bytes(32), **LIGHT).decode()
    raw = bytearray(base64.b64decode(text.splitlines()[1]))
    raw[38:54] = b"\xff" * 7 + b"\x7f" + b"\xff" * 7 + b"\x7f"
    with pytest.raises(NotMinisign, match="more than is spent here"):
        parse_secret_key(f"untrusted comment: x\n{base64.b64encode(raw).decode()}\n".encode(), password=b"x")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_secret_key_is_never_opened(data: st.DataObject):
    raw = bytearray(base64.b64decode(emit_secret_key(KEY).splitlines()[1]))
    at = data.draw(
        st.sampled_from([*range(6), *range(54, len(raw))])
    )  # salt and limits mean nothing without a password
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((NotMinisign, WrongPassword)):
        parse_secret_key(b"untrusted comment: x\n" + base64.b64encode(raw) + b"\n")


@pytest.mark.parametrize("comment", ["two\nlines", "\x1b[2J", "\u202e"])
def test_a_comment_of_ours_is_one_printable_line(comment: str):
    with pytest.raises(RuntimeError):
        sign(KEY, [b"x"], trusted_comment=comment)


# -- the other hand -----------------------------------------------------------------------------


@pytest.fixture
def message(tmp_path: Path) -> Path:
    path = tmp_path / "message"
    path.write_bytes(os.urandom(100_000))
    return path


def test_minisign_verifies_our_signature_and_refuses_it_for_another_message(tmp_path: Path, message: Path):
    (tmp_path / "key.pub").write_bytes(emit_public_key(KEY.public))
    signature = tmp_path / "message.minisig"
    signature.write_bytes(sign(KEY, [message.read_bytes()], trusted_comment="a\tb"))
    done = run("-V", "-m", message, "-p", tmp_path / "key.pub")
    assert done.returncode == 0, done.stderr
    assert "Trusted comment: a\tb" in done.stdout
    message.write_bytes(message.read_bytes() + b"!")
    assert run("-V", "-m", message, "-p", tmp_path / "key.pub").returncode != 0


@pytest.mark.parametrize("old_kind", [False, True])
def test_we_verify_what_minisign_signed_with_our_encrypted_key(tmp_path: Path, message: Path, old_kind: bool):
    key = tmp_path / "ours.key"
    key.write_bytes(emit_secret_key(KEY, password=b"pw", salt=os.urandom(32), **LIGHT))
    done = run("-S", *(["-l"] if old_kind else []), "-s", key, "-m", message, typed="pw\n")
    assert done.returncode == 0, done.stderr
    signature = parse_signature((tmp_path / "message.minisig").read_bytes())
    assert signature.algorithm == (b"Ed" if old_kind else b"ED")
    assert verify(KEY.public, signature, [message.read_bytes()]) is None
    assert verify(KEY.public, signature, [message.read_bytes(), b"!"]) is minisign.Flaw.BAD_SIGNATURE
    assert run("-S", "-s", key, "-m", message, typed="wrong\n").returncode != 0


def test_minisign_makes_the_public_key_of_our_secret_key(tmp_path: Path):
    (tmp_path / "ours.key").write_bytes(emit_secret_key(KEY))
    done = run("-R", "-s", tmp_path / "ours.key", "-p", tmp_path / "made.pub")
    assert done.returncode == 0, done.stderr
    assert parse_public_key((tmp_path / "made.pub").read_bytes()) == KEY.public


def test_an_unencrypted_key_of_minisign_signs_here(tmp_path: Path, message: Path):
    done = run("-G", "-W", "-s", tmp_path / "their.key", "-p", tmp_path / "their.pub")
    assert done.returncode == 0, done.stderr
    key = parse_secret_key((tmp_path / "their.key").read_bytes())
    assert not is_encrypted((tmp_path / "their.key").read_bytes())
    (tmp_path / "message.minisig").write_bytes(sign(key, [message.read_bytes()], trusted_comment="x"))
    assert run("-V", "-m", message, "-p", tmp_path / "their.pub").returncode == 0
