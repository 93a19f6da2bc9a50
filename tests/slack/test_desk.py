"""A request that is given up is told to the person, and what was filled in is forgotten."""

from datetime import UTC, datetime

from bot.engine import Engine
from bot.incidents.model import Request
from bot.slack.desk import give_up


async def test_what_was_filled_into_a_form_does_not_outlive_the_request_that_was_given_up(database):
    engine = Engine(database)
    values = {"about": {"incident": "i"}, "values": {"param.token": "hunter2-secret"}}
    async with engine.transaction() as tx:
        tx.session.add(
            Request(
                id="r1",
                key="k",
                kind="form",
                name="run.form",
                person="U1",
                channel="C1",
                payload=values,
                deadline=1e12,
                recorded=0.0,
                received_at=datetime(2026, 11, 20, tzinfo=UTC),
            )
        )
    async with engine.transaction() as tx:
        await give_up(tx, "r1", "Slack was away")
    async with engine.db.read() as session:
        request = await session.get(Request, "r1")
    await engine.close()

    assert request.state == "refused"
    assert "Slack was away" in request.answer
    assert request.payload == {"about": {"incident": "i"}}
