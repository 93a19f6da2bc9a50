"""The certificate that a real TLS server shows is read, whether anybody would trust it or not."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from bot.kit.clock import utc_now
from bot.runs.model import RunState
from tests.runbooks.conftest import play

CA = """\
[ca]
default_ca = own
[own]
new_certs_dir = {folder}
database = {folder}/index.txt
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
organizationName = optional
commonName = supplied
[names]
subjectAltName = DNS:shop.example.com,DNS:localhost
[req]
distinguished_name = req_name
[req_name]
"""


def certificate(folder: Path, *, days: int) -> Path:
    """A certificate that signs itself and is good for *days*, counted from now; below zero, it has expired."""
    config, key, request, own = (folder / name for name in ("ca.conf", "key.pem", "request.pem", "own.pem"))
    config.write_text(CA.format(folder=folder))
    (folder / "index.txt").touch()
    ends = f"{utc_now() + timedelta(days=days):%y%m%d%H%M%SZ}"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key)]
    name = ["-subj", "/O=Example/CN=shop.example.com", "-out", str(request)]
    signed = ["-in", str(request), "-keyfile", str(key), "-out", str(own), "-extensions", "names", "-notext"]
    for command in (
        ["req", "-new", "-config", str(config), *curve, *name],
        ["ca", "-selfsign", "-batch", "-config", str(config), *signed, "-startdate", "200101000000Z", "-enddate", ends],
    ):
        done = subprocess.run(["openssl", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    place = folder / "server.pem"
    place.write_bytes(key.read_bytes() + own.read_bytes())
    return place


@contextmanager
def served(pem: Path) -> Iterator[int]:
    """A TLS server that shows *pem*; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0)) as line:
        line.settimeout(0.05)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    caller, _ = line.accept()
                except TimeoutError:
                    continue
                caller.settimeout(5)
                try:
                    with context.wrap_socket(caller, server_side=True) as talk:
                        talk.recv(1)
                except OSError:
                    caller.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield line.getsockname()[1]
        finally:
            done.set()
            thread.join()


def look(port: int, *more: str) -> dict:
    return play("certificate.py", "127.0.0.1", "--port", str(port), "--name", "shop.example.com", *more).json


def test_a_certificate_is_told_with_its_names_and_its_last_day(tmp_path):
    with served(certificate(tmp_path, days=30)) as port:
        found = look(port)

    assert found["days_left"] == 29
    assert not found["expired"]
    assert found["names"] == ["shop.example.com", "localhost"]
    assert "CN=shop.example.com" in found["subject"]
    assert (found["trusted"], found["problem"]) == (False, "self-signed certificate")
    assert found["chain"] == []


def test_one_that_has_expired_is_read_all_the_same(tmp_path):
    pem = certificate(tmp_path, days=-3)
    with served(pem) as port:
        found = look(port)

    assert found["expired"]
    assert found["days_left"] < -2
    assert found["ends_at"].endswith("+00:00")


def test_a_server_that_speaks_no_tls_shows_none():
    with socket.create_server(("127.0.0.1", 0)) as line:
        said = play("certificate.py", "127.0.0.1", "--port", str(line.getsockname()[1]), "--seconds", "0.5")

    assert said.code == 1
    assert "shows no certificate" in said.err


def test_a_port_where_nobody_listens_is_told_as_such():
    with socket.create_server(("127.0.0.1", 0)) as line:
        port = line.getsockname()[1]
    said = play("certificate.py", "127.0.0.1", "--port", str(port))

    assert said.code == 1
    assert "Connection refused" in said.err


@pytest.mark.parametrize("host", ["-help", "a b", "a;b", "", "a/b"])
def test_what_is_no_host_never_reaches_openssl(host):
    said = play("certificate.py", "--port", "1", "--", host)

    assert said.code == 1
    assert "is not the name of a host" in said.err


async def test_the_runbook_tells_of_a_certificate_that_expires_soon(library, tmp_path):
    with served(certificate(tmp_path, days=5)) as port:
        run = await library.play(
            "certificate-expiring", {"host": "127.0.0.1", "port": port, "name": "shop.example.com", "days": 21}
        )

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs == {"days_left": 4, "trusted": False}
    said = await library.said()
    assert f"The certificate of 127.0.0.1:{port} is good for 4 more days" in said
    assert "is not trusted where the bot runs: self-signed certificate" in said
