"""The request of a webhook over real sockets: what it never connects to, and what it does not wait for."""

import ssl
import subprocess
from pathlib import Path

import pytest

from tests.support.receiver import Receiver
from workers.post import READ_MAX_BYTES, Poster

LOOPBACK = ("127.0.0.0/8",)
BODY = b'{"type":"webhook.ping"}'


def post(poster: Poster, url: str):
    return poster.post(url, BODY, {"Content-Type": "application/json"})


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
    ],
)
def test_nothing_on_this_machine_is_connected_to(host: str) -> None:
    with Receiver() as receiver:
        outcome = post(Poster(), f"http://{host}:{receiver.port}/")
        assert outcome.status_code is None
        assert "is not a public address" in str(outcome.error)
        assert "webhook_allow_networks" in str(outcome.error)
        assert receiver.connections == 0


@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.1", "192.168.0.1", "100.64.0.1", "fd00::1"])
def test_a_name_of_an_inner_address_is_refused(address: str) -> None:
    outcome = post(Poster(resolve=lambda _host, _port: [address]), "http://metadata.example/")
    assert "is not a public address" in str(outcome.error)


def test_one_bad_address_of_a_name_refuses_all() -> None:
    with Receiver() as receiver:
        poster = Poster(resolve=lambda _host, _port: ["8.8.8.8", "127.0.0.1"])
        assert "127.0.0.1 is not a public address" in str(
            post(poster, f"http://h.example:{receiver.port}/").error
        )
        assert receiver.connections == 0


def test_a_name_that_flips_between_the_check_and_the_connection_gains_nothing() -> None:
    asked: list[str] = []

    def flips(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    with Receiver() as receiver:
        poster = Poster(allow_networks=["127.0.0.1/32"], resolve=flips)
        assert post(poster, f"http://flip.example:{receiver.port}/").status_code == 200
        assert asked == ["flip.example"]
        assert receiver.requests[0].headers["host"] == f"flip.example:{receiver.port}"
        assert "127.0.0.2" in str(post(poster, f"http://flip.example:{receiver.port}/").error)
        assert receiver.connections == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with (
        Receiver() as inner,
        Receiver([status], headers={"Location": inner.url}) as receiver,
    ):
        outcome = post(Poster(allow_networks=LOOPBACK), receiver.url)
        assert outcome.status_code == status
        assert not outcome.arrived
        assert "redirects are not followed" in str(outcome.error)
        assert inner.connections == 0


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as proxy, Receiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert post(Poster(allow_networks=LOOPBACK), receiver.url).status_code == 200
        assert proxy.connections == 0


def test_an_answer_that_trickles_is_cut_off() -> None:
    with Receiver(text=b"x" * 1000, slow_seconds=0.05) as receiver:
        outcome = post(Poster(allow_networks=LOOPBACK, total_seconds=0.5), receiver.url)
        assert outcome.status_code is None
        assert "within 0.5 s" in str(outcome.error)


def test_of_a_long_answer_only_the_beginning_is_read() -> None:
    with Receiver(text=b"x" * (READ_MAX_BYTES * 20)) as receiver:
        outcome = post(Poster(allow_networks=LOOPBACK), receiver.url)
        assert outcome.arrived
        assert len(outcome.response) == READ_MAX_BYTES


def test_what_is_no_http_and_what_is_not_there() -> None:
    poster = Poster(allow_networks=LOOPBACK)
    with Receiver() as receiver:
        port = receiver.port
    assert "refused" in str(post(poster, f"http://127.0.0.1:{port}/").error)
    gone = Poster(resolve=lambda _host, _port: [])
    assert "has no address" in str(post(gone, "http://nowhere.example/").error)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for hooks.example, with its key in the same file."""
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "both.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            folder / "key.pem",
            "-out",
            folder / "cert.pem",
            "-days",
            "2",
            "-subj",
            "/CN=hooks.example",
            "-addext",
            "subjectAltName=DNS:hooks.example",
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    made.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return made


def test_tls_names_the_host_and_checks_its_certificate(certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    named: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: named.append(name)  # type: ignore[assignment]
    trusting = ssl.create_default_context(cafile=str(certificate))

    def to_loopback(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    with Receiver(tls=server) as receiver:
        url = f"https://hooks.example:{receiver.port}/hook"
        ours = Poster(allow_networks=LOOPBACK, resolve=to_loopback, tls=trusting)
        assert post(ours, url).status_code == 200
        assert named == ["hooks.example"]
        assert receiver.requests[0].headers["host"] == f"hooks.example:{receiver.port}"
        other = post(ours, f"https://other.example:{receiver.port}/hook")
        assert "TLS: Hostname mismatch" in str(other.error)
        stranger = Poster(allow_networks=LOOPBACK, resolve=to_loopback)
        assert "self-signed" in str(post(stranger, url).error)
        assert len(receiver.requests) == 1
