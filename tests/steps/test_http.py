"""The http step, against a real server: what it sends, what it refuses, and what a failure means."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.catalog import targets
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.tasks import spawn
from bot.runs.redact import MASK
from bot.runs.step import Cancelled, effect, prepare
from bot.steps import http as step

LOCAL = ("127.0.0.0/8",)


@pytest.fixture
async def server():
    """A server that answers as its path says and keeps what it was sent."""
    seen: list[dict] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(
            {
                "method": request.method,
                "path": request.path_qs,
                "headers": dict(request.headers),
                "body": await request.text(),
            }
        )
        match request.path.split("/")[1]:
            case "status":
                headers = {"Retry-After": request.query["after"]} if "after" in request.query else {}
                return web.Response(status=int(request.path.split("/")[2]), text="told why", headers=headers)
            case "move":
                return web.Response(status=302, headers={"Location": "http://169.254.169.254/"})
            case "big":
                return web.Response(body=b"x" * 2_000_000)
            case "packed":
                return web.Response(body=b"x", headers={"Content-Encoding": "gzip"})
            case "api" if "echo" in request.path:
                status = int(request.query.get("status", 200))
                return web.json_response(dict(request.headers), status=status, headers={"X-Told": str(request.headers)})
            case "slow":
                await asyncio.sleep(30)
        return web.json_response({"ok": True, "token": "abcdef", "n": 3, "said": "hunter22"}, headers={"X-A": "b"})

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    found = TestServer(app, host="127.0.0.1")
    await found.start_server()
    found.seen = seen
    yield found
    await found.close()


def url(server: TestServer, path: str = "/") -> str:
    return str(server.make_url(path))


async def test_a_request_is_sent_filled_in_and_its_answer_read(run, server):
    raw = {
        "method": "POST",
        "url": url(server, "/pools") + "/{{ params.pool }}",
        "headers": {"Authorization": "Bearer {{ secrets.T }}"},
        "query": {"a": "b c", "n": 1},
        "json": {"weight": "{{ params.weight }}"},
        "idempotency_key": "{{ params.pool }}-1",
    }

    result = await run(
        step, raw, allow_private=LOCAL, values={"params": {"pool": "x", "weight": 0}}, secrets={"T": "hunter22"}
    )

    sent = server.seen[0]
    assert (sent["method"], sent["path"], sent["body"]) == ("POST", "/pools/x?a=b+c&n=1", '{"weight": 0}')
    assert sent["headers"]["Authorization"] == "Bearer hunter22"
    assert sent["headers"]["Idempotency-Key"] == "x-1"
    assert result.ok
    assert result.values["status"] == 200
    assert result.values["headers"]["x-a"] == "b"
    assert result.values["json"] == {"ok": True, "token": MASK, "n": 3, "said": MASK}
    assert "hunter22" not in repr(result)


async def test_a_form_is_sent_as_one(run, server):
    await run(step, {"method": "POST", "url": url(server), "form": {"a": "b c"}}, allow_private=LOCAL)

    assert server.seen[0]["body"] == "a=b+c"


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422])
async def test_an_answer_that_will_not_change_fails_for_good(run, server, status):
    with pytest.raises(PermanentError, match=f"→ {status}: told why"):
        await run(step, {"url": url(server, f"/status/{status}")}, allow_private=LOCAL)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
async def test_an_answer_that_may_change_can_be_tried_again(run, server, status):
    with pytest.raises(TemporaryError, match=f"→ {status}"):
        await run(step, {"url": url(server, f"/status/{status}")}, allow_private=LOCAL)


@pytest.mark.parametrize(("asked", "after"), [("7", 7), ("99999", 300), ("nonsense", 5)])
async def test_the_other_side_says_when_to_come_back(run, server, asked, after):
    with pytest.raises(TemporaryError) as caught:
        await run(step, {"url": url(server, f"/status/503?after={asked}")}, allow_private=LOCAL)

    assert caught.value.after == after


async def test_what_is_expected_decides(run, server):
    good = await run(step, {"url": url(server, "/status/404"), "expect": "status == 404"}, allow_private=LOCAL)
    bad = await run(
        step, {"url": url(server), "expect": "json.n > params.n"}, allow_private=LOCAL, values={"params": {"n": 3}}
    )

    assert good.ok
    assert not bad.ok
    assert bad.values["json"]["n"] == 3


async def test_redirects_are_not_followed(run, server):
    with pytest.raises(PermanentError, match="redirects are not followed"):
        await run(step, {"url": url(server, "/move")}, allow_private=LOCAL)


@pytest.mark.parametrize(("path", "told"), [("/big", "larger than 1 MiB"), ("/packed", "compressed")])
async def test_an_answer_that_is_too_much_is_refused(run, server, path, told):
    with pytest.raises(PermanentError, match=told):
        await run(step, {"url": url(server, path)}, allow_private=LOCAL)


async def test_no_answer_in_time_can_be_tried_again(run, server):
    with pytest.raises(TemporaryError, match=r"no answer within 0\.2 s"):
        await run(step, {"url": url(server, "/slow")}, allow_private=LOCAL, timeout=0.2)


async def test_nobody_listening_can_be_tried_again(run):
    with pytest.raises(TemporaryError):
        await run(step, {"url": "http://127.0.0.1:9/"}, allow_private=LOCAL)


async def test_cancelling_ends_the_request(run, server):
    cancelled = asyncio.Event()
    task = spawn(run(step, {"url": url(server, "/slow")}, allow_private=LOCAL, cancelled=cancelled), name="test")
    await asyncio.sleep(0.1)

    cancelled.set()

    with pytest.raises(Cancelled):
        await task


@pytest.mark.parametrize(
    "raw",
    ["http://127.0.0.1:1/", "http://[::1]/", "http://2130706433/", "http://0x7f.1/", "http://localhost/", "http://0/"],
)
async def test_however_it_is_written_this_machine_is_not_reached(run, raw):
    with pytest.raises(PermanentError, match=r"not a public address|link-local"):
        await run(step, {"url": raw})


async def test_a_name_with_one_forbidden_address_is_refused_as_a_whole(run):
    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "169.254.169.254"]

    with pytest.raises(PermanentError, match=r"169\.254\.169\.254"):
        await run(step, {"url": "http://rebind.example.com/"}, resolve=resolve)


async def test_the_connection_goes_to_the_address_that_was_checked(run, server):
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    raw = {"url": f"http://nowhere.example.com:{server.port}/"}
    result = await run(step, raw, resolve=resolve, allow_private=("nowhere.example.com",))

    assert result.ok
    assert asked == ["nowhere.example.com"]
    assert server.seen[0]["headers"]["Host"] == f"nowhere.example.com:{server.port}"


async def test_a_name_that_does_not_resolve_can_be_tried_again(run):
    async def resolve(host: str, port: int) -> list[str]:
        raise OSError("unknown")

    with pytest.raises(TemporaryError, match="cannot be resolved"):
        await run(step, {"url": "http://example.com/"}, resolve=resolve)


async def test_a_header_cannot_bring_another_along(run, server):
    raw = {"url": url(server), "headers": {"X-A": "{{ params.x }}"}}

    with pytest.raises(PermanentError):
        await run(step, raw, allow_private=LOCAL, values={"params": {"x": "a\r\nX-B: c"}})
    assert server.seen == []


@pytest.mark.parametrize(
    ("method", "expected"), [("GET", "read"), ("HEAD", "read"), ("POST", "write"), ("DELETE", "write")]
)
def test_only_looking_is_reading(method, expected):
    assert effect(step, step.Params.model_validate({"url": "https://example.com", "method": method})) == expected


def test_the_preview_names_headers_and_does_not_show_them():
    params = step.Params.model_validate(
        {"method": "PUT", "url": "https://example.com/x", "headers": {"Authorization": "hunter22"}, "json": {"a": 1}}
    )

    assert step.preview(params) == 'would send: PUT https://example.com/x (headers Authorization) with {"a": 1}'


# -- through a connection --------------------------------------------------------------------------------------------

SECRET = "correct-horse-battery"


def through(server: TestServer, tmp_path, **more: object) -> dict:
    """A context with the connection `lb`, which is the server's /api."""
    lines = "".join(
        f"    {key}: {value}\n" for key, value in {"url": url(server, "/api"), "private": "true", **more}.items()
    )
    (tmp_path / "targets.yaml").write_text(f"version: 1\nconnections:\n  lb:\n{lines}")
    return {"reach": targets.load(tmp_path, {"LB_TOKEN": SECRET})}


@pytest.mark.parametrize("path", ["/pools/x", "whole"])
async def test_a_connection_gives_address_and_credentials(run, server, tmp_path, path):
    raw = {"connection": "lb", "url": url(server, "/api/pools/x") if path == "whole" else path}

    result = await run(step, raw, **through(server, tmp_path, token="{env: LB_TOKEN}"))

    assert server.seen[0]["path"] == "/api/pools/x"
    assert server.seen[0]["headers"]["Authorization"] == f"Bearer {SECRET}"
    assert result.ok
    assert result.summary.startswith("GET lb /pools/x → 200") or path == "whole"


@pytest.mark.parametrize(
    ("more", "header", "value"),
    [
        ({"username": "me", "password": "{env: LB_TOKEN}"}, "Authorization", "Basic bWU6Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"),
        ({"headers": "{X-Key: {env: LB_TOKEN}}"}, "X-Key", SECRET),
    ],
)
async def test_credentials_may_be_a_password_or_headers(run, server, tmp_path, more, header, value):
    await run(step, {"connection": "lb", "url": "/"}, **through(server, tmp_path, **more))

    assert server.seen[0]["headers"][header] == value


@pytest.mark.parametrize("echo", ["/echo", "/echo?status=500", "/echo?status=404"])
async def test_credentials_never_come_back(run, bench, server, tmp_path, echo):
    raw = {"connection": "lb", "url": echo}
    try:
        result = await run(step, raw, **through(server, tmp_path, username="me", password="{env: LB_TOKEN}"))
        told = repr(result)
        assert MASK in told
    except (PermanentError, TemporaryError) as error:
        told = str(error)

    assert SECRET not in told
    assert "bWU6Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5" not in told
    assert server.seen


@pytest.mark.parametrize(
    "elsewhere",
    [
        *(
            "http://127.0.0.1:1/api/x",
            "http://evil.example.com/",
            "{base}x",
            "{base}@evil.example.com/",
            "{base}.evil/",
        ),
        *("{base}:80@evil.example.com/", "{base}\\@evil.example.com/", "{root}/", "{root}/other", "{base}#@evil"),
        *(
            "/../admin",
            "/x/../../admin",
            "/%2e%2e/admin",
            "/.%2E/admin",
            "/..\\admin",
            "/x/..?a",
            "/./x",
            "{base}/../x",
        ),
    ],
)
async def test_a_url_that_leaves_the_connection_gets_nothing_and_asks_nobody(run, server, tmp_path, elsewhere):
    root = url(server, "/").rstrip("/")
    raw = {"connection": "lb", "url": elsewhere.replace("{base}", f"{root}/api").replace("{root}", root)}
    context = through(server, tmp_path, token=f"{{command: [touch, {tmp_path}/asked]}}")

    with pytest.raises(PermanentError, match=r"leads away from the connection lb|must not hold \. or \.\."):
        await run(step, raw, allow_private=LOCAL, **context)
    assert server.seen == []
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("path", ["//evil.example.com/x", "/x?next=/../..", "/a..b/...", "/x@evil.example.com"])
async def test_what_only_looks_like_leaving_stays(run, server, tmp_path, path):
    assert (await run(step, {"connection": "lb", "url": path}, **through(server, tmp_path))).ok
    assert server.seen[0]["path"].startswith("/api/")


async def test_a_header_of_the_connection_cannot_be_replaced(run, server, tmp_path):
    raw = {"connection": "lb", "url": "/", "headers": {"authorization": "x"}}

    with pytest.raises(PermanentError, match="the header authorization is set by the connection lb"):
        await run(step, raw, **through(server, tmp_path, token="{env: LB_TOKEN}"))
    assert server.seen == []


async def test_only_a_private_connection_reaches_a_private_network(run, server, tmp_path):
    with pytest.raises(PermanentError, match="not a public address"):
        await run(step, {"connection": "lb", "url": "/"}, **through(server, tmp_path, private="false"))
    assert server.seen == []


async def test_a_private_connection_never_reaches_metadata_services(run, server, tmp_path):
    context = through(server, tmp_path, url="http://169.254.169.254/")

    with pytest.raises(PermanentError, match="metadata"):
        await run(step, {"connection": "lb", "url": "/latest/meta-data"}, **context)


async def test_the_authorities_of_a_connection_lie_beside_targets_yaml(run, server, tmp_path):
    (tmp_path / "own.pem").write_text("nonsense")

    with pytest.raises(PermanentError, match=f"no certificate authority can be read from {tmp_path}/own.pem"):
        await run(step, {"connection": "lb", "url": "/"}, **through(server, tmp_path, ca="own.pem"))


async def test_refused_credentials_say_where_to_look(run, server, tmp_path):
    with pytest.raises(
        PermanentError, match=r"GET lb /status/401 → 401: .*check the credentials of lb in targets.yaml"
    ):
        await run(step, {"connection": "lb", "url": "/status/401"}, **through(server, tmp_path, url=url(server)))


async def test_a_secret_that_is_missing_stops_the_request(run, server, tmp_path):
    with pytest.raises(PermanentError, match="token of lb is not set: the environment variable GONE is empty"):
        await run(step, {"connection": "lb", "url": "/"}, **through(server, tmp_path, token="{env: GONE}"))
    assert server.seen == []


@pytest.mark.parametrize(
    ("name", "told"),
    [("lp", "did you mean lb"), ("{{ params.name }}", "no connection 'x y'"), ("db", "is of kind postgres")],
)
async def test_a_connection_must_be_one_of_targets_yaml_that_speaks_http(run, server, tmp_path, name, told):
    context = through(server, tmp_path)
    text = (tmp_path / "targets.yaml").read_text()
    (tmp_path / "targets.yaml").write_text(text + "  db: {kind: postgres, url: postgresql://db.example.com/x}\n")
    context = {"reach": targets.load(tmp_path, {}), "values": {"params": {"name": "x y"}}}

    with pytest.raises(PermanentError, match=told):
        await run(step, {"connection": name, "url": "/"}, **context)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"url": "/x"}, "a path alone needs a connection"),
        ({"url": "x", "connection": "lb"}, "must be a path that begins with /"),
        ({"url": "ftp://x", "connection": "lb"}, "must be a path that begins with /"),
    ],
)
def test_a_url_must_fit_whether_there_is_a_connection(bench, raw, told):
    with pytest.raises(PermanentError, match=told):
        prepare(step, raw, bench.context())


def test_what_it_needs_is_its_connection():
    assert step.needs(step.Params.model_validate({"url": "/x", "connection": "lb"})) == [("connection", "lb")]
    assert step.needs(step.Params.model_validate({"url": "https://example.com"})) == []


def test_the_preview_names_the_connection():
    params = step.Params.model_validate({"url": "/x", "connection": "lb", "method": "PUT"})

    assert step.preview(params) == "would send: PUT /x (to lb)"
