"""Publishers of packages and subjects of certificates: the same parts, written in two worlds."""

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from pipeline.formats import der
from pipeline.formats.certificate import name as read_name
from pipeline.formats.publisher import parse_publisher, same_publisher, same_text

PARTS = (
    (NameOID.COUNTRY_NAME, "US"),
    (NameOID.STATE_OR_PROVINCE_NAME, "Washington"),
    (NameOID.ORGANIZATION_NAME, 'Tiny, "Inc"'),
    (NameOID.EMAIL_ADDRESS, "a@tiny.example"),
    (NameOID.COMMON_NAME, "Tiny"),
)


def subject(*parts):
    return read_name(
        der.single(x509.Name([x509.NameAttribute(kind, text) for kind, text in parts]).public_bytes())
    )


@pytest.mark.parametrize(
    "publisher",
    [
        'CN=Tiny, E=a@tiny.example, O="Tiny, ""Inc""", S=Washington, C=US',
        'C=US;ST=Washington;O="Tiny, ""Inc""";emailAddress=a@tiny.example;cn=Tiny',
        'CN = "Tiny" ,OID.1.2.840.113549.1.9.1=a@tiny.example, O="Tiny, ""Inc""" , S=washington, C=us',
    ],
)
def test_each_way_to_write_the_same_name(publisher):
    assert same_publisher(publisher, subject(*PARTS))


@pytest.mark.parametrize(
    "publisher",
    [
        'CN=Tiny, O="Tiny, ""Inc""", S=Washington, C=US',
        'CN=Tiny2, E=a@tiny.example, O="Tiny, ""Inc""", S=Washington, C=US',
        'CN=Tiny, CN=Tiny, E=a@tiny.example, O="Tiny, ""Inc""", S=Washington, C=US',
        "Tiny",
        "",
        "CN=Tiny, X=1",
        'CN="Tiny',
    ],
)
def test_other_names(publisher):
    assert not same_publisher(publisher, subject(*PARTS))


def test_attributes_of_one_relative_name_belong_together():
    joined, apart = parse_publisher("CN=a+O=b, C=c"), parse_publisher("CN=a, O=b, C=c")
    assert joined is not None
    assert apart is not None
    assert [len(rdn) for rdn in joined] == [2, 1]
    assert not same_text("CN=a+O=b, C=c", "CN=a, O=b, C=c")


def test_publishers_that_are_no_names_have_to_be_equal():
    assert same_text("nobody", "nobody")
    assert not same_text("nobody", "somebody")


@given(st.text(max_size=200))
def test_any_text_is_a_name_or_none(text):
    parse_publisher(text)
