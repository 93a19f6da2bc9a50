"""A public status page: what people publish, what it may say by itself, and what it never says."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.kit.errors import PermanentError, TemporaryError
from bot.sinks import statuspage
from tests.fakes.statuspage import StatuspageServer
from tests.sinks.conftest import NOW, SECRET, said

PAGE = "abcdef123456"


@pytest.fixture
async def server():
    async with StatuspageServer(SECRET, PAGE, components={"cmp1": "operational", "cmp2": "operational"}) as made:
        yield made


def page(sink, server, more=""):
    return statuspage.make(
        sink(
            f"    kind: statuspage\n    api_url: {server.url}\n    page_id: {PAGE}\n    api_key: {{env: SECRET}}\n"
            f"    components: {{checkout: [cmp1]}}\n{more}"
        )
    )


def asked(number=1, status="investigating", page="it", **more):
    data = {
        "page": page,
        "title": "Payments fail",
        "text": f"Update {number}",
        "status": status,
        "components": {"cmp1": "major_outage"},
        "notify": False,
    }
    return said("statuspage.requested", id_=f"{number:032}", data=data, **more)


async def test_the_first_words_open_the_pages_incident_and_the_next_are_updates_of_it(sink, server):
    made = page(sink, server)
    first = await made.send(asked(1))
    second = await made.send(asked(2, "resolved"))

    (incident,) = server.incidents
    assert [update["body"] for update in incident["updates"]] == ["Update 1", "Update 2"]
    assert (incident["name"], incident["status"], incident["deliver_notifications"]) == (
        "Payments fail",
        "resolved",
        False,
    )
    assert (first.reference, second.reference) == ("p1", "p1")
    assert server.components == {"cmp1": "major_outage", "cmp2": "operational"}
    assert first.said.kind == "statuspage.published"
    assert first.said.text == "Published on it (investigating): https://stspg.example.com/p1"


async def test_a_lost_answer_publishes_nothing_twice(sink, server):
    made = page(sink, server)
    for number in (1, 2):
        server.answers = ["lost"]
        with pytest.raises(TemporaryError):
            await made.send(asked(number))
        await made.send(asked(number))

    assert [update["body"] for update in server.incidents[0]["updates"]] == ["Update 1", "Update 2"]


async def test_another_incident_has_one_of_its_own(sink, server):
    made = page(sink, server)
    await made.send(asked(1))
    await made.send(asked(2, id="f" * 32))

    assert len(server.incidents) == 2


@pytest.mark.parametrize(
    "message",
    [said("incident.opened"), said("note.added"), asked(page="another")],
    ids=["opened", "note", "another-page"],
)
async def test_nothing_is_said_that_nobody_asked_for(sink, server, message):
    assert (await page(sink, server).send(message)).outcome == "skipped"
    assert server.calls == []


@pytest.mark.parametrize(
    "more", [{"private": True}, {"kind_": "drill"}, {"kind_": "test"}], ids=["private", "drill", "test"]
)
async def test_nothing_private_and_no_drill_is_ever_published(sink, server, more):
    made, subject = page(sink, server, "    auto: true\n"), said().subject
    changed = replace(subject, private=more.get("private", False), kind=more.get("kind_", "standard"))

    for message in (asked(1), said("incident.opened")):
        assert (await made.send(replace(message, subject=changed))).outcome == "skipped"
    assert server.calls == []


async def test_one_that_speaks_by_itself_tells_of_start_status_and_end(sink, server):
    made = page(sink, server, "    auto: true\n")
    await made.send(said("incident.opened"))
    await made.send(said("status.changed", data={"to": "monitoring"}))
    await made.send(said("incident.resolved", resolved_at=NOW + timedelta(hours=1)))

    (incident,) = server.incidents
    assert [update["status"] for update in incident["updates"]] == ["investigating", "monitoring", "resolved"]
    assert server.components["cmp1"] == "operational"


async def test_a_component_that_is_not_there_is_a_refusal(sink, server):
    del server.components["cmp1"]

    with pytest.raises(PermanentError, match="no component"):
        await page(sink, server).send(asked())


async def test_a_revoked_key_says_where_to_look(sink, server):
    server.key = "another"

    with pytest.raises(PermanentError, match="does api_key hold"):
        await page(sink, server).send(asked())


def test_what_people_publish_is_taken_whatever_else_is_filtered(tmp_path, sink):
    text = f"    kind: statuspage\n    page_id: {PAGE}\n    api_key: {{env: SECRET}}\n"
    made = sink(text + "    severity: [SEV1]\n    services: [x]\n")

    assert made.takes("statuspage.requested", "SEV4", None)
    assert not made.takes("incident.opened", "SEV1", "x")
