"""Pages to Opsgenie and to Jira Service Management: alerts under our alias, and proof that they are there."""

import pytest

from bot.catalog import config as catalog
from bot.catalog.config import Config, ConfigError
from bot.incidents.pager import Action, PageRequest
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.pagers import opsgenie
from tests.fakes.opsgenie import OpsgenieServer

REQUEST = PageRequest("INC-42", "Payments are down", "SEV1", "checkout", "tocsin-1", "https://tocsin.example.com/42")
KEY, CLOUD, USER = "a-key-of-the-tests-0123456789", "0123-4567-89ab", "bot@example.com"


@pytest.fixture(params=["opsgenie", "jsm"])
async def server(request):
    more = {"cloud_id": CLOUD, "user": USER} if request.param == "jsm" else {}
    async with OpsgenieServer(KEY, **more) as made:
        yield made


def pager(tmp_path, server, more=""):
    jsm = f"  cloud_id: {CLOUD}\n  user: {USER}\n" if server.cloud_id else ""
    (tmp_path / "tocsin.yaml").write_text(
        f"version: 1\nopsgenie:\n  api_key: {{env: KEY}}\n  api_url: {server.url}\n{jsm}{more}"
    )
    made = opsgenie.make(catalog.load(tmp_path, {"KEY": KEY}))
    made._look = 0
    return made


async def test_a_page_is_sent_when_the_request_proves_to_be_carried_out(tmp_path, server):
    result = await pager(tmp_path, server).page(REQUEST)

    alert = server.alerts["tocsin-1"]
    assert (result.outcome, result.proof) == ("sent", alert["id"])
    assert (alert["message"], alert["priority"], alert["entity"]) == ("INC-42 Payments are down", "P1", "checkout")


async def test_asking_again_counts_up_and_wakes_nobody_again(tmp_path, server):
    made = pager(tmp_path, server)
    results = [await made.page(REQUEST) for _ in range(2)]

    assert results[0].proof == results[1].proof
    assert server.alerts["tocsin-1"]["count"] == 2


async def test_a_request_that_was_taken_and_failed_is_not_sent(tmp_path, server):
    server.refuses = ["Integration is disabled"]

    with pytest.raises(PermanentError, match="Integration is disabled"):
        await pager(tmp_path, server).page(REQUEST)


async def test_a_request_of_which_nothing_is_heard_is_tried_again(tmp_path, server):
    server.never_done = True

    with pytest.raises(TemporaryError, match="does not say what came of it"):
        await pager(tmp_path, server).page(REQUEST)


async def test_acts_reach_the_alert_under_our_alias(tmp_path, server):
    made = pager(tmp_path, server, "  escalation: checkout_escalation\n")
    await made.page(REQUEST)

    for kind, more in (
        ("ack", {}),
        ("note", {"message": "Rolled back"}),
        ("escalate", {}),
        ("add_responder", {"user": "alice@example.com"}),
        ("resolve", {"message": "It was the deployment"}),
    ):
        result = await made.act(Action(kind, REQUEST, kind, **more))
        assert (result.outcome, result.proof) == ("done", server.alerts["tocsin-1"]["id"])

    alert = server.alerts["tocsin-1"]
    assert (alert["acknowledged"], alert["notes"], alert["status"]) == (True, ["Rolled back"], "closed")
    assert alert["escalate"]["escalation"] == {"name": "checkout_escalation"}
    assert alert["responders"]["responder"]["username"] == "alice@example.com"


async def test_an_act_on_an_alert_that_is_not_there_says_so(tmp_path, server):
    with pytest.raises(PermanentError, match=r"no alert|does not exist"):
        await pager(tmp_path, server).act(Action("ack", REQUEST, "1"))


async def test_to_escalate_somebody_must_have_said_to_whom(tmp_path, server):
    with pytest.raises(PermanentError, match=r"opsgenie\.escalation"):
        await pager(tmp_path, server).act(Action("escalate", REQUEST, "1"))


@pytest.mark.parametrize(
    ("status", "kind"), [(401, PermanentError), (422, PermanentError), (429, TemporaryError), (503, TemporaryError)]
)
async def test_a_refusal_is_final_and_a_fault_is_not(tmp_path, server, status, kind):
    server.statuses = [status]

    with pytest.raises(kind) as caught:
        await pager(tmp_path, server).page(REQUEST)
    assert KEY not in str(caught.value)
    assert ("check api_key" in str(caught.value)) == (status == 401)


async def test_a_long_title_is_cut_to_what_is_allowed(tmp_path, server):
    await pager(tmp_path, server).page(PageRequest("INC-1", "x" * 999, "SEV2", None, "tocsin-2"))

    assert len(server.alerts["tocsin-2"]["message"]) == 130


def test_half_an_account_is_refused(tmp_path):
    (tmp_path / "tocsin.yaml").write_text(f"version: 1\nopsgenie:\n  api_key: {{env: KEY}}\n  cloud_id: {CLOUD}\n")
    with pytest.raises(ConfigError, match="cloud_id and user go together"):
        catalog.load(tmp_path, {"KEY": KEY})


def test_without_its_section_it_says_what_to_write():
    with pytest.raises(UserError, match="OPSGENIE_API_KEY"):
        opsgenie.make(Config())
