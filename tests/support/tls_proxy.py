"""nginx in front of a server, with a certificate made for the occasion, configured as docs/deploy.md says, and with the client's Host passed on.

with tls_proxy(folder, port=proxy_port, to=platform.port) as authority:
    httpx.get(f"https://localhost:{proxy_port}/healthz", verify=authority)
"""

import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.fixtures import missing

NGINX = Path("/usr/sbin/nginx")
START_SECONDS = 20.0
STOP_SECONDS = 20.0
_CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name localhost;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem;
        location / {{
            proxy_pass http://127.0.0.1:{to};
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header Host $http_host;  # as many proxies do: what a client writes there has to be harmless
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffering off;
            client_max_body_size 0;
            proxy_read_timeout 300s;
        }}
    }}
}}
"""


@contextmanager
def tls_proxy(folder: Path, *, port: int, to: int) -> Iterator[ssl.SSLContext]:
    """Yields what a client needs to believe the proxy's certificate."""
    if not NGINX.exists():
        missing(f"{NGINX} is not there; Debian has it in nginx-light")
    folder.mkdir(parents=True)
    _certificate(folder)
    (folder / "nginx.conf").write_text(_CONFIGURATION.format(folder=folder, port=port, to=to))
    process = subprocess.Popen(
        [NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    authority = ssl.create_default_context(cafile=folder / "certificate.pem")
    try:
        _until_it_answers(f"https://localhost:{port}/healthz", authority, process, folder / "error.log")
        yield authority
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _until_it_answers(
    url: str, authority: ssl.SSLContext, process: subprocess.Popen[bytes], log: Path
) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(url, verify=authority, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("nginx does not answer:\n" + (log.read_text() if log.exists() else "no log"))


def _certificate(folder: Path) -> None:
    """For `localhost`, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    (folder / "key.pem").chmod(0o600)
