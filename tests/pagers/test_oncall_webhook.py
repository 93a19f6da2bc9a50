"""Pages to Grafana OnCall's formatted webhook."""

import pytest

from bot.catalog import config as catalog
from bot.catalog.config import Config, ConfigError
from bot.incidents.pager import Action, PageRequest
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.pagers import oncall_webhook
from tests.fakes.receiver import Receiver

REQUEST = PageRequest("INC-42", "Payments are down", "SEV1", "checkout", "tocsin-1", "https://tocsin.example.com/42")
PATH = "/integrations/v1/formatted_webhook/ab12cd34ef56ab12cd34"


def pager(tmp_path, url, more=""):
    (tmp_path / "tocsin.yaml").write_text(f"version: 1\noncall_webhook:\n  url: {{env: ONCALL}}\n{more}")
    return oncall_webhook.make(
        catalog.load(tmp_path, {"ONCALL": url + PATH + "/", "SHOP": url + "/shop/of/the/tests/"})
    )


async def test_a_page_is_alerting_and_a_resolve_is_ok_under_the_same_uid(tmp_path):
    async with Receiver() as server:
        made = pager(tmp_path, server.url)
        result = await made.page(REQUEST)
        done = await made.act(Action("resolve", REQUEST, "1", message="Rolled back"))
        await made.close()

    assert (result.outcome, result.proof) == ("sent", "HTTP 200 for tocsin-1")
    assert done.outcome == "done"
    assert [got.path for got in server.got] == [PATH + "/"] * 2
    assert server.got[0].json == {
        "alert_uid": "tocsin-1",
        "title": "INC-42 Payments are down",
        "message": "SEV1, checkout",
        "state": "alerting",
        "link_to_upstream_details": "https://tocsin.example.com/42",
    }
    assert (server.got[1].json["state"], server.got[1].json["message"]) == ("ok", "Rolled back")


async def test_a_service_with_its_own_integration_is_paged_there(tmp_path):
    async with Receiver() as server:
        await pager(tmp_path, server.url, "  services: {checkout: {env: SHOP}}\n").page(REQUEST)

    assert server.got[0].path == "/shop/of/the/tests/"


@pytest.mark.parametrize("kind", ["ack", "escalate", "note", "add_responder"])
async def test_what_the_webhook_cannot_do_is_refused_in_plain_words(tmp_path, kind):
    with pytest.raises(PermanentError, match="do it there"):
        await pager(tmp_path, "http://127.0.0.1:9").act(Action(kind, REQUEST, "1"))


@pytest.mark.parametrize(("status", "kind"), [(404, PermanentError), (503, TemporaryError), (429, TemporaryError)])
async def test_no_error_tells_the_address(tmp_path, status, kind):
    async with Receiver(answers=[status]) as server:
        with pytest.raises(kind) as caught:
            await pager(tmp_path, server.url).page(REQUEST)
    assert PATH not in str(caught.value)

    with pytest.raises(TemporaryError, match="cannot be reached") as caught:
        await pager(tmp_path, server.url).page(REQUEST)
    assert PATH not in str(caught.value)


def test_what_is_kept_as_the_address_must_be_one(tmp_path):
    with pytest.raises(ConfigError, match="is no address") as caught:
        pager(tmp_path, "ftp://x")
    assert "ftp" not in str(caught.value)


def test_without_its_section_it_says_what_to_write():
    with pytest.raises(UserError, match="ONCALL_WEBHOOK_URL"):
        oncall_webhook.make(Config())
