"""Pages to any receiver of signed JSON: the form, the signature, the proof, and how it fails."""

from datetime import UTC, datetime

import pytest
from aiohttp import web

from bot.catalog import config as catalog
from bot.catalog.config import Config, ConfigError
from bot.incidents.pager import Action, Acts, PageRequest
from bot.kit import signature
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.pagers import webhook
from tests.fakes.receiver import Receiver

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REQUEST = PageRequest("INC-42", "Payments are down", "SEV1", "checkout", "tocsin-1", "https://tocsin.example.com/42")
OLD, NEW = "an-old-secret-of-the-tests-0123456789", "a-new-secret-of-the-tests-0123456789"


def pager(tmp_path, url, secret="{env: NEW}", more=""):  # noqa: S107
    (tmp_path / "tocsin.yaml").write_text(f"version: 1\nwebhook:\n  url: {url}/page\n  secret: {secret}\n{more}")
    made = webhook.make(catalog.load(tmp_path, {"OLD": OLD, "NEW": NEW}))
    made._clock = lambda: NOW
    return made


async def test_a_page_is_one_signed_request_and_its_answer_is_the_proof(tmp_path):
    async with Receiver(answers=[web.json_response({"id": "P-7"})]) as server:
        made = pager(tmp_path, server.url)
        result = await made.page(REQUEST)
        await made.close()

    (got,) = server.got
    assert (result.outcome, result.proof) == ("sent", "P-7")
    assert (got.method, got.path, got.headers["content-type"]) == ("POST", "/page", "application/json")
    assert got.json == {
        "type": "tocsin.page",
        "timestamp": "2026-03-01T12:00:00+00:00",
        "data": {
            "key": "tocsin-1",
            "incident": "INC-42",
            "title": "Payments are down",
            "severity": "SEV1",
            "service": "checkout",
            "url": "https://tocsin.example.com/42",
        },
    }
    assert signature.genuine([NEW], got.headers, got.body, int(NOW.timestamp()))


async def test_both_secrets_sign_while_they_change(tmp_path):
    async with Receiver() as server:
        await pager(tmp_path, server.url, "[{env: NEW}, {env: OLD}]").page(REQUEST)

    (got,) = server.got
    for secret in (OLD, NEW):
        assert signature.genuine([secret], got.headers, got.body, int(NOW.timestamp()))


async def test_the_same_page_has_the_same_id_and_that_is_the_proof_where_nothing_else_is_said(tmp_path):
    async with Receiver(answers=["lost"]) as server:
        made = pager(tmp_path, server.url)
        with pytest.raises(TemporaryError):
            await made.page(REQUEST)
        result = await made.page(REQUEST)

    first, again = (got.headers["webhook-id"] for got in server.got)
    assert first == again == result.proof


async def test_a_service_with_its_own_address_is_paged_there(tmp_path):
    async with Receiver() as server:
        await pager(tmp_path, server.url, more=f"  services: {{checkout: '{server.url}/shop'}}\n").page(REQUEST)

    assert server.got[0].path == "/shop"


async def test_what_is_done_to_a_page_is_told_once_under_its_own_key(tmp_path):
    async with Receiver() as server:
        made = pager(tmp_path, server.url)
        assert isinstance(made, Acts)
        for key in ("1", "1", "2"):
            result = await made.act(Action("note", REQUEST, key, message="Rolled back", user="a@example.com"))

    ids = [got.headers["webhook-id"] for got in server.got]
    assert ids[0] == ids[1] != ids[2]
    assert (result.outcome, result.proof) == ("done", ids[2])
    assert server.got[0].json["type"] == "tocsin.note"
    assert server.got[0].json["data"]["message"] == "Rolled back"
    assert server.got[0].json["data"]["user"] == "a@example.com"


@pytest.mark.parametrize(
    ("status", "kind", "word"),
    [
        (400, PermanentError, "HTTP 400"),
        (401, PermanentError, "does it know the secret"),
        (302, PermanentError, "redirects are not followed"),
        (429, TemporaryError, "too many requests"),
        (500, TemporaryError, "HTTP 500"),
    ],
)
async def test_a_refusal_is_final_and_a_fault_is_not(tmp_path, status, kind, word):
    async with Receiver(answers=[status]) as server:
        with pytest.raises(kind, match=word):
            await pager(tmp_path, server.url).page(REQUEST)


async def test_an_answer_to_wait_says_for_how_long(tmp_path):
    async with Receiver(answers=[web.Response(status=429, headers={"Retry-After": "90"})]) as server:
        with pytest.raises(TemporaryError) as caught:
            await pager(tmp_path, server.url).page(REQUEST)

    assert caught.value.after == 90


async def test_an_error_that_repeats_the_secret_does_not_reach_people(tmp_path):
    async with Receiver(answers=[web.Response(status=400, text=f"bad secret {NEW}")]) as server:
        with pytest.raises(PermanentError) as caught:
            await pager(tmp_path, server.url).page(REQUEST)

    assert NEW not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("  url: http://hooks.example.com/x\n  secret: {env: NEW}", "webhook.url: write https://"),
        ("  url: https://hooks.example.com/x\n  secret: short", "never written here"),
        ("  url: https://hooks.example.com/x\n  secret: {env: GONE}", "GONE is not set"),
        ("  url: https://hooks.example.com/x\n  secret: []", "give one secret"),
    ],
    ids=["plain-http", "written", "not-set", "none"],
)
def test_a_section_that_makes_no_sense_is_refused_with_its_line(tmp_path, text, wrong):
    (tmp_path / "tocsin.yaml").write_text(f"version: 1\nwebhook:\n{text}\n")

    with pytest.raises(ConfigError, match=wrong) as caught:
        catalog.load(tmp_path, {"NEW": NEW})
    assert str(caught.value).startswith("tocsin.yaml:")


def test_without_its_section_it_says_what_to_write():
    with pytest.raises(UserError, match="url and secret"):
        webhook.make(Config())
