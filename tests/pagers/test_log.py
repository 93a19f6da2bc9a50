"""The pager that pages nobody says so."""

import pytest
from structlog.testing import capture_logs

from bot.catalog.config import Config
from bot.incidents.pager import ActResult, Acts, PageRequest, PageResult
from bot.kit.errors import PermanentError
from bot.kit.shelf import Shelf
from bot.pagers import log

REQUEST = PageRequest("INC-42", "Payments are down", "SEV1", "checkout", dedup_key="tocsin-1-1")


async def test_it_says_that_nobody_was_paged_and_what_to_do():
    pager = log.make(Config())

    result = await pager.page(REQUEST)
    await pager.close()

    assert (result.outcome, result.proof) == ("nobody", None)
    assert result.detail.startswith("Nobody was paged")
    assert "tocsin.yaml" in result.detail


async def test_the_log_holds_the_reference_and_not_the_title():
    with capture_logs() as lines:
        await log.make(Config()).page(REQUEST)

    (line,) = lines
    assert line["incident"] == "INC-42"
    assert "Payments" not in str(line)


def test_the_pagers_stand_on_the_shelf():
    assert list(Shelf("bot.pagers", must_have=("make",)).load()) == [
        *("email", "log", "oncall_webhook", "opsgenie", "pagerduty", "webhook")
    ]


def test_it_can_do_nothing_but_page():
    assert not isinstance(log.make(Config()), Acts)


def test_a_page_without_proof_is_not_sent():
    with pytest.raises(PermanentError, match="no proof"):
        PageResult("sent", "accepted")

    assert PageResult("sent", "accepted", proof="dedup-1").outcome == "sent"


def test_nothing_is_done_without_proof():
    with pytest.raises(PermanentError, match="no proof"):
        ActResult("done", "noted")

    assert ActResult("done", "noted", proof="PNOTE1").outcome == "done"
    assert ActResult("nobody", "nobody is on call").proof is None
