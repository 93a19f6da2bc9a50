"""Grafana annotations: a region per incident, a mark per change, and none of them twice."""

from datetime import timedelta

import pytest

from bot.kit.errors import PermanentError, TemporaryError
from bot.sinks import grafana
from tests.fakes.grafana import GrafanaServer
from tests.sinks.conftest import NOW, SECRET, said

LATER = NOW + timedelta(minutes=30)
MS = int(NOW.timestamp() * 1000)


@pytest.fixture
async def server():
    async with GrafanaServer(SECRET) as made:
        yield made


@pytest.fixture
def annotations(sink, server):
    return grafana.make(sink(f"    kind: grafana\n    url: {server.url}/\n    token: {{env: SECRET}}\n"))


async def test_an_incident_is_a_region_from_its_start_to_its_end(server, annotations):
    opened = await annotations.send(said())
    before = dict(server.annotations[0])
    await annotations.send(said("incident.resolved", resolved_at=LATER))

    (region,) = server.annotations
    assert (opened.outcome, opened.reference) == ("delivered", "1")
    assert before["time"] == MS
    assert "timeEnd" not in before
    assert region["timeEnd"] == MS + 1_800_000
    assert region["text"] == "INC-42 Payments are down"
    assert set(region["tags"]) == {"tocsin", "INC-42", "SEV1", "checkout", f"tocsin:{'0' * 31}1"}


async def test_an_incident_whose_start_was_never_told_is_a_region_all_the_same(server, annotations):
    await annotations.send(said("incident.resolved", resolved_at=LATER))

    assert [(one["time"], one["timeEnd"]) for one in server.annotations] == [(MS, MS + 1_800_000)]


async def test_a_lost_answer_does_not_make_a_second_one(server, annotations):
    for message in (said(), said("severity.changed", data={"to": "SEV2"})):
        server.answers = ["lost"]
        with pytest.raises(TemporaryError):
            await annotations.send(message)
        await annotations.send(message)

    assert [one["text"] for one in server.annotations] == ["INC-42 Payments are down", "INC-42 is SEV2"]


async def test_two_changes_are_two_marks(server, annotations):
    for id_, to in (("a", "SEV2"), ("b", "SEV1")):
        await annotations.send(said("severity.changed", id_=id_ * 32, data={"to": to}))

    assert [one["text"] for one in server.annotations] == ["INC-42 is SEV2", "INC-42 is SEV1"]


async def test_a_title_is_no_markup(server, annotations):
    await annotations.send(said(title="<script>alert(1)</script>"))

    assert "<script" not in server.annotations[0]["text"]


async def test_what_it_does_not_show_is_skipped(server, annotations):
    assert (await annotations.send(said("note.added"))).outcome == "skipped"
    assert server.calls == []


async def test_a_revoked_token_says_where_to_look(server, annotations):
    server.token = "another"

    with pytest.raises(PermanentError, match="service account"):
        await annotations.send(said())


async def test_it_can_be_on_one_dashboard_alone(sink, server):
    text = f"    kind: grafana\n    url: {server.url}\n    token: {{env: SECRET}}\n"
    text += "    dashboard_uid: abc\n    panel_id: 3\n"
    await grafana.make(sink(text)).send(said())

    assert (server.annotations[0]["dashboardUID"], server.annotations[0]["panelId"]) == ("abc", 3)
