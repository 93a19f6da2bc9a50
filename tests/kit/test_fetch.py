"""One guarded request against real servers: where it may go, what it takes back, and how it fails."""

import asyncio
import ipaddress
import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.fetch import Answer, Guard, Stopped, blocked, fetch
from bot.kit.tasks import spawn


async def here(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


async def get(url: str, method: str = "GET", **more) -> Answer:
    return await fetch(method, url, **{"allow": here, "timeout": 10.0, "cancelled": asyncio.Event(), **more})


@pytest.fixture
async def server():
    """A server that answers as its path says and keeps what it was sent."""
    seen: list[web.Request] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        match request.path:
            case "/move":
                return web.Response(status=302, headers={"Location": "/"})
            case "/big":
                return web.Response(body=b"x" * 3000)
            case "/packed":
                return web.Response(body=b"x", headers={"Content-Encoding": "gzip"})
            case "/slow":
                await asyncio.sleep(30)
            case "/endless":
                stream = web.StreamResponse()
                await stream.prepare(request)
                while True:
                    await stream.write(b"x" * 65536)
            case "/gone":
                request.transport.close()
            case "/cookie":
                return web.Response(headers={"Set-Cookie": "a=b"})
        return web.json_response({"ok": True, "body": await request.text()}, headers={"X-Told": "yes"})

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    found = TestServer(app, host="127.0.0.1")
    await found.start_server()
    found.seen = seen
    yield found
    await found.close()


def url(server: TestServer, path: str = "/") -> str:
    return str(server.make_url(path))


async def test_an_answer_comes_back_as_it_is(server):
    answer = await get(url(server, "/x?a=1"), "POST", headers={"X-A": "b"}, params={"b": "c d"}, json={"n": [1]})

    assert (answer.status, answer.headers["x-told"], answer.truncated) == (200, "yes", False)
    assert answer.json() == {"ok": True, "body": '{"n": [1]}'}
    assert server.seen[0].path_qs == "/x?a=1&b=c+d"
    assert server.seen[0].headers["X-A"] == "b"
    assert server.seen[0].headers["Accept-Encoding"] == "identity"


async def test_a_form_and_plain_bytes_are_sent(server):
    assert (await get(url(server), "POST", data={"a": "b c"})).json()["body"] == "a=b+c"
    assert (await get(url(server), "POST", data=b"raw")).json()["body"] == "raw"


async def test_redirects_are_given_back_and_not_followed(server):
    answer = await get(url(server, "/move"))

    assert (answer.status, answer.headers["location"]) == (302, "/")
    assert len(server.seen) == 1


async def test_the_name_goes_to_the_address_that_was_allowed_and_is_asked_for_once(server):
    asked: list[tuple[str, int]] = []

    async def allow(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    answer = await get(f"http://nowhere.example.com:{server.port}/", allow=allow)

    assert answer.status == 200
    assert asked == [("nowhere.example.com", server.port)]
    assert server.seen[0].headers["Host"] == f"nowhere.example.com:{server.port}"


async def test_nothing_is_sent_where_it_is_not_allowed(server):
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    with pytest.raises(PermanentError, match="not a public address"):
        await get(url(server), allow=Guard((), resolve).addresses)
    assert server.seen == []


async def test_an_answer_is_read_up_to_its_limit(server):
    exact = await get(url(server, "/big"), limit=3000)
    cut = await get(url(server, "/big"), limit=2999)

    assert (len(exact.body), exact.truncated) == (3000, False)
    assert (len(cut.body), cut.truncated) == (2999, True)


async def test_an_endless_answer_ends_at_the_limit(server):
    answer = await get(url(server, "/endless"))

    assert (len(answer.body), answer.truncated) == (1024 * 1024, True)


async def test_a_compressed_answer_is_refused_for_it_may_hold_gigabytes(server):
    with pytest.raises(PermanentError, match="compressed"):
        await get(url(server, "/packed"))


async def test_no_answer_in_time_can_be_tried_again(server):
    with pytest.raises(TemporaryError, match=r"GET http://127.*/slow gave no answer within 0\.2 s"):
        await get(url(server, "/slow?key=hunter22"), timeout=0.2)


async def test_a_name_server_that_hangs_does_not_hang_the_request():
    async def allow(host: str, port: int) -> list[str]:
        await asyncio.sleep(30)
        return []

    with pytest.raises(TemporaryError, match="no answer within"):
        await get("http://example.com/", allow=allow, timeout=0.2)


async def test_a_connection_that_breaks_or_is_refused_can_be_tried_again(server):
    for address in (url(server, "/gone"), "http://127.0.0.1:9/"):
        with pytest.raises(TemporaryError, match=f"GET {address} failed"):
            await get(address)


async def test_what_is_no_http_can_be_tried_again():
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        writer.close()

    async with await asyncio.start_server(nonsense, "127.0.0.1") as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(TemporaryError):
            await get(f"http://127.0.0.1:{port}/")


async def test_cancelling_stops_the_request(server):
    cancelled = asyncio.Event()
    task = spawn(get(url(server, "/slow"), cancelled=cancelled), name="test")
    await asyncio.sleep(0.1)

    cancelled.set()

    with pytest.raises(Stopped):
        await task


async def test_no_cookie_is_kept(server):
    await get(url(server, "/cookie"))
    await get(url(server, "/"))

    assert "Cookie" not in server.seen[1].headers


@pytest.mark.parametrize(
    ("header", "value"),
    [
        *(("X-A", "a\r\nX-B: c"), ("X-A", "a\nb"), ("X-A", "a\0b"), ("X-A\r\nX-B", "c"), ("", "c"), ("a b", "c")),
        *(("Host", "other.example.com"), ("transfer-encoding", "chunked"), ("Content-Length", "1")),
    ],
)
async def test_a_header_cannot_bring_another_along_or_change_where_the_request_goes(server, header, value):
    with pytest.raises(PermanentError) as caught:
        await get(url(server), headers={header: value})

    assert "X-B: c" not in str(caught.value)
    assert server.seen == []


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://user:hunter22@127.0.0.1/", "must not hold a user"),
        ("http://good.example.com@127.0.0.1/", "must not hold a user"),
        ("ftp://127.0.0.1/", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("/x", "http:// or https://"),
        ("http:///x", "no host"),
        ("http://[::1/", "cannot be read"),
        ("http://127.0.0.1:99999/", "cannot be read"),
        ("http://127.0.0.1:x/", "cannot be read"),
    ],
)
async def test_an_address_that_is_none_or_holds_a_password_is_refused(address, told):
    with pytest.raises(PermanentError, match=told) as caught:
        await get(address)

    assert "hunter22" not in str(caught.value)


@given(st.text(max_size=30))
async def test_whatever_the_address_only_the_three_kinds_of_error_come(rest):
    async def nowhere(host: str, port: int) -> list[str]:
        raise PermanentError("not here")

    with pytest.raises((PermanentError, TemporaryError)):
        await get("http://" + rest, allow=nowhere)


# -- certificates ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that only those trust who are told to."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=local",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
async def secure(authority: Path):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="safe")

    app = web.Application()
    app.router.add_get("/", answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    found = TestServer(app, host="127.0.0.1", scheme="https")
    await found.start_server(ssl=context)
    yield found
    await found.close()


async def test_a_certificate_that_nobody_vouches_for_is_refused_for_good(secure):
    with pytest.raises(PermanentError, match="no certificate that we trust"):
        await get(url(secure))


async def test_an_authority_of_ones_own_can_be_trusted(secure, authority):
    assert (await get(url(secure), ca=authority / "cert.pem")).text() == "safe"


async def test_a_certificate_for_another_name_is_refused(secure, authority):
    with pytest.raises(PermanentError, match="no certificate that we trust"):
        await get(f"https://other.example.com:{secure.port}/", ca=authority / "cert.pem")


async def test_a_file_that_holds_no_authority_is_named(secure, authority, tmp_path):
    (tmp_path / "empty.pem").write_text("nothing")
    for file in (tmp_path / "empty.pem", tmp_path / "absent.pem"):
        with pytest.raises(PermanentError, match=str(file)):
            await get(url(secure), ca=file)


# -- the guard ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "240.0.0.1", "::1", "fd12::1"),
        *("::7f00:1", "::ffff:10.1.2.3", "64:ff9b::a01:203", "64:ff9b:1::1", "fec0::1", "2002:a01:203::"),
    ],
)
def test_private_addresses_need_to_be_allowed(address):
    assert blocked(address, "x.example.com", ())
    assert blocked(address, "x.example.com", ("*.example.com",)) is None
    assert blocked(address, "x.example.com", ("*.example.org", "9.0.0.0/8"))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "fd12::1"])
def test_an_address_can_be_allowed_by_itself(address):
    assert blocked(address, "x.example.com", (address,)) is None


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "224.0.0.1", "::a9fe:a9fe"),
        *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "100.100.100.200", "::", "0.0.0.0"),  # noqa: S104
    ],
)
def test_metadata_and_link_local_addresses_are_never_allowed(address):
    assert blocked(address, "x.example.com", ("*", "0.0.0.0/0", "::/0"))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
def test_public_addresses_need_nothing(address):
    assert blocked(address, "example.com", ()) is None


@given(st.ip_addresses(), st.lists(st.sampled_from(["*", "10.0.0.0/8", "::/0", "x", "[", ""]), max_size=3))
def test_whatever_the_address_the_guard_has_an_answer(address, allow):
    reason = blocked(str(address), "x.example.com", allow)

    if isinstance(address, ipaddress.IPv4Address) and address in ipaddress.ip_network("169.254.0.0/16"):
        assert reason
    assert reason is None or "address" in reason


async def test_a_name_with_one_forbidden_address_is_refused_as_a_whole():
    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "169.254.169.254"]

    with pytest.raises(PermanentError, match=r"169\.254\.169\.254"):
        await Guard(("*",), resolve).addresses("rebind.example.com", 80)


async def test_a_private_place_may_be_anywhere_but_at_the_metadata_services():
    async def resolve(host: str, port: int) -> list[str]:
        return [host]

    guard = Guard((), resolve, private=True)

    assert await guard.addresses("10.0.0.7", 80) == ["10.0.0.7"]
    with pytest.raises(PermanentError, match="metadata"):
        await guard.addresses("169.254.169.254", 80)


@pytest.mark.parametrize("answer", [OSError("unknown"), UnicodeError("label too long"), []])
async def test_a_name_without_an_address_can_be_tried_again(answer):
    async def resolve(host: str, port: int) -> list[str]:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(TemporaryError, match=r"example\.com"):
        await Guard((), resolve).addresses("example.com", 80)


# -- what an answer says -----------------------------------------------------------------------------------------


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, False, 1)


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("text/plain", "é".encode(), "é"),
        ("text/plain; charset=ISO-8859-1", "é".encode("latin-1"), "é"),
        ('text/plain; charset="utf-16"', "é".encode("utf-16"), "é"),
        ("text/plain; charset=punycode", b"abc-", "abc-"),
        ("text/plain; charset=no\0such", b"abc", "abc"),
        ("", b"\xff", "\ufffd"),
    ],
)
def test_text_is_read_as_the_answer_says_where_that_is_sane(kind, body, text):
    assert answer(body=body, content_type=kind).text() == text


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, b'{"a":'])
def test_what_is_no_json_is_none(body):
    assert answer(body=body).json() is None


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_some_answers_may_change(status):
    assert answer(status).passing


@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 422])
def test_some_answers_will_not_change(status):
    assert not answer(status).passing


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        *(("7", 7), ("99999", 300), ("nonsense", 5), ("", 5), ("-3", 5), ("٥", 5), ("9" * 400, 5)),
        *(
            ("Wed, 01 Jan 2025 12:00:09 GMT", 9),
            ("Wed, 01 Jan 2025 11:00:00 GMT", 0),
            ("Wed, 01 Jan 2099 11:00:00", 300),
        ),
    ],
)
def test_the_other_side_says_when_to_come_back(asked, seconds):
    assert answer(503, retry_after=asked).after(datetime(2025, 1, 1, 12, 0, 0, tzinfo=UTC)) == seconds
