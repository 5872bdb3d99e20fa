"""Trust: three answers, and everything that is not the first two is the third."""

import pytest

from pipeline import minisign
from pipeline.minisign import emit_public_key
from pipeline.package.errors import Category, PackageError
from pipeline.package.manifest import emit
from pipeline.package.sealed import Answer, Seal, Sealed, judge, open_sealed, parse_trusted, seal
from tests.pipeline.package.test_manifest import PLAIN
from tests.support.build_package import KEY, OTHER_KEY

DATA = emit(PLAIN)
LINE = KEY.public.line
OTHER_LINE = OTHER_KEY.public.line


def sealed(key: minisign.SecretKey = KEY) -> Sealed:
    return open_sealed(DATA, seal(DATA, key))


def answer(found: Sealed, trusted: str) -> tuple[Answer, str]:
    judgement = judge(found, trusted.encode())
    return judgement.answer, judgement.reason


@pytest.mark.parametrize(
    "trusted",
    [
        LINE,
        f"{LINE} notes",
        f"{LINE} other notes",
        f"# ours\n\n{OTHER_LINE}\n{LINE}\n",
        f"{LINE} other\n{LINE} notes",
        emit_public_key(KEY.public).decode(),
        f"untrusted comment: joined\r\n{LINE}\r\n",
    ],
)
def test_a_trusted_key(trusted: str):
    assert answer(sealed(), trusted) == (Answer.TRUSTED, "")


@pytest.mark.parametrize("trusted", ["", "# nothing yet\n", OTHER_LINE, f"{OTHER_LINE} other"])
def test_a_key_of_which_nothing_is_known_would_be_pinned_and_is_not(trusted: str):
    judgement = judge(sealed(), trusted.encode())
    assert judgement.answer is Answer.WOULD_PIN
    assert judgement.answer.value == "unknown key, would pin"
    assert judgement.pin == LINE
    assert judge(sealed(), f"{trusted}\n{judgement.pin} notes".encode()).answer is Answer.TRUSTED


def test_a_package_that_is_not_signed_is_refused():
    assert answer(open_sealed(DATA, None), LINE) == (Answer.REFUSED, "the package is not signed")


def test_a_name_that_has_a_key_is_not_given_to_another_one():
    assert answer(sealed(), f"{OTHER_LINE} notes") == (Answer.REFUSED, "another key is pinned for notes")


def test_a_key_that_is_trusted_for_other_packages_is_refused():
    assert answer(sealed(), f"{LINE} other")[0] is Answer.REFUSED


def test_a_signature_over_another_manifest_is_refused():
    changed = DATA.replace(b"1.4.0", b"1.4.1")
    assert answer(Sealed(changed, PLAIN, seal(DATA, KEY)), LINE) == (
        Answer.REFUSED,
        "the signature does not hold: not a signature over these bytes",
    )


def test_a_changed_trusted_comment_is_refused():
    made = seal(DATA, KEY)
    found = Sealed(DATA, PLAIN, Seal(made.signature.replace(b"notes 1.4.0", b"notes 9.9.9"), made.key))
    assert answer(found, LINE)[0] is Answer.REFUSED


def test_a_package_that_brings_another_key_than_it_was_signed_with_is_refused():
    made = seal(DATA, OTHER_KEY)
    for trusted in ("", LINE, OTHER_LINE):
        assert (
            answer(Sealed(DATA, PLAIN, Seal(made.signature, emit_public_key(KEY.public))), trusted)[0]
            is Answer.REFUSED
        )


def test_another_key_under_the_identifier_of_a_trusted_one_is_refused():
    forged = minisign.SecretKey(KEY.key_id, OTHER_KEY.seed)
    assert answer(sealed(forged), LINE)[0] is Answer.REFUSED
    assert answer(sealed(forged), "")[0] is Answer.WOULD_PIN


@pytest.mark.parametrize("text", ["x", LINE[:-1], f"{LINE}{LINE}", "RWQ= notes", "\udcff", f"notes {LINE}"])
def test_trusted_keys_that_cannot_be_read_name_the_line(text: str):
    with pytest.raises(PackageError, match="line 2") as caught:
        parse_trusted(f"# keys\n{text}\n".encode("utf-8", "surrogateescape"))
    assert caught.value.category is Category.INVALID


@pytest.mark.parametrize("which", ["signature", "key"])
def test_a_seal_that_is_none_is_malformed(which: str):
    made = seal(DATA, KEY)
    broken = Seal(b"x" if which == "signature" else made.signature, b"x" if which == "key" else made.key)
    with pytest.raises(PackageError) as caught:
        open_sealed(DATA, broken)
    assert caught.value.category is Category.MALFORMED


def test_the_same_key_seals_with_the_same_bytes():
    assert seal(DATA, KEY) == seal(DATA, KEY)
