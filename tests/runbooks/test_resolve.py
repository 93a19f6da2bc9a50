"""Each DNS server is asked for itself, and what it answers, or fails to, is told."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.runbooks.conftest import play

Reply = Callable[[bytes], bytes | None]


def answer(*records: tuple[int, bytes], code: int = 0) -> Reply:
    """A server's reply with *records* (type and data) to whatever is asked."""

    def reply(query: bytes) -> bytes:
        head = query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records), 0, 0)
        body = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data for kind, data in records)
        return head + query[12:] + body

    return reply


A = answer((1, bytes([192, 0, 2, 7])))


@contextmanager
def server(reply: Reply, address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A DNS server of a test, on UDP; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.bind((address, port))
        line.settimeout(0.05)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    query, sender = line.recvfrom(4096)
                except TimeoutError:
                    continue
                if (told := reply(query)) is not None:
                    line.sendto(told, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield line.getsockname()[1]
        finally:
            done.set()
            thread.join()


def ask(port: int, servers: str = "127.0.0.1", name: str = "shop.example.com", *more: str) -> dict:
    return play("resolve.py", name, "--servers", servers, "--port", str(port), "--seconds", "0.3", *more).json


def test_a_server_that_answers_is_well():
    with server(A) as port:
        found = ask(port)

    assert found["verdict"] == "all servers answer"
    assert found["failing"] == []
    [told] = found["servers"]
    assert (told["ok"], told["code"], told["answers"], told["problem"]) == (True, "NOERROR", ["192.0.2.7"], "")


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (answer(code=3), "NXDOMAIN"),
        (answer(code=2), "SERVFAIL"),
        (answer(code=5), "REFUSED"),
        (answer(), "no such record"),
        (lambda query: None, "no answer within 0.3 s"),
        (
            lambda query: query[:2] + b"\x81\x80\x00\x01\x00\x05\x00\x00\x00\x00" + b"\x3f",
            "an answer that cannot be read",
        ),
        (lambda query: b"xx" + query[2:], "no answer within 0.3 s"),
    ],
    ids=["nxdomain", "servfail", "refused", "empty", "silent", "broken", "another"],
)
def test_how_a_server_fails_is_told(reply, problem):
    with server(reply) as port:
        found = ask(port)

    assert found["verdict"] == "all servers fail"
    assert found["servers"][0]["problem"] == problem


def test_one_server_of_two_that_fails_is_named():
    with server(A) as port, server(answer(code=2), "127.0.0.2", port):
        found = ask(port, "127.0.0.1,127.0.0.2")

    assert found["verdict"] == "some servers fail"
    assert found["failing"] == ["127.0.0.2"]


def test_servers_that_say_different_things_disagree():
    with server(A) as port, server(answer((1, bytes([192, 0, 2, 8]))), "127.0.0.2", port):
        found = ask(port, "127.0.0.1,127.0.0.2")

    assert found["verdict"] == "the servers disagree"
    assert found["failing"] == []


def test_a_port_where_nobody_listens_fails_at_once():
    with server(A) as port:
        pass

    assert ask(port)["servers"][0]["problem"] == "Connection refused"


def test_the_servers_of_the_machine_are_asked_where_none_is_named(tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text("# nameserver 192.0.2.1\nsearch example.com\nnameserver 127.0.0.1\n")
    with server(A) as port:
        found = ask(port, "", "shop.example.com", "--resolv-conf", str(conf))

    assert [one["server"] for one in found["servers"]] == ["127.0.0.1"]


@pytest.mark.parametrize("name", ["a..b", "a b", "-x.example.com", "x" * 64 + ".example.com", "é.example.com"])
def test_what_is_no_name_is_refused(name):
    said = play("resolve.py", "--servers", "127.0.0.1", "--", name)

    assert said.code == 1
    assert "is not a name that DNS knows" in said.err
