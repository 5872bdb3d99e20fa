"""What a webhook may point at: URLs as people and attackers type them, and the addresses behind them."""

import pytest

from pipeline.errors import Invalid
from pipeline.webhook_target import literal, parse_target, refusal

REFUSED = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert "is not a public address" in str(refusal(address, ()))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::200e"])
def test_a_public_address_is_open(address: str) -> None:
    assert refusal(address, ()) is None


def test_a_network_that_the_operator_allows_is_open_and_no_other() -> None:
    allowed = ("10.1.0.0/16", "fd00::/8")
    assert refusal("10.1.2.3", allowed) is None
    assert refusal("fd12::1", allowed) is None
    assert refusal("10.2.2.3", allowed) is not None
    assert refusal("::ffff:10.1.2.3", allowed) is not None
    assert refusal("127.0.0.1", allowed) is not None


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("::1", "::1"),
        ("hooks.example.com", None),
        ("localhost", None),
    ],
)
def test_an_address_is_recognised_however_it_is_written(host: str, address: str | None) -> None:
    assert literal(host) == address


def test_a_url_is_taken_apart() -> None:
    target = parse_target("https://Hooks.example.com:8443/a/b?c=d")
    assert (target.scheme, target.host, target.port, target.path) == (
        "https",
        "hooks.example.com",
        8443,
        "/a/b?c=d",
    )
    assert target.host_header == "hooks.example.com:8443"
    assert parse_target("http://[::1]:80").host_header == "[::1]"
    assert parse_target("https://h.example").path == "/"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "gopher://h.example/_x",
        "https://user@h.example/",
        "https://user:password@h.example/",
        "https://@h.example/",
        "https:///path",
        "https://h.example/#part",
        "https://h.example:0/",
        "https://h.example:99999/",
        "https://h.example:x/",
        "https://[::1/",
        "https://h.example/a b",
        "https://h.example/a\r\nX-Evil: 1",
        "https://h.example/ä",
        "https://h.example/" + "a" * 2000,
    ],
)
def test_what_is_no_webhook_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_target(url)
    assert caught.value.remedy
    assert caught.value.extra["pointer"] == "/url"
