"""A suggestion that nobody can be asked about opens by itself."""

import pytest

from tests.scenarios.conftest import alertmanager, app_of_the_bot, staged, write_config


@pytest.mark.parametrize("place", [None, "nowhere"], ids=["none named", "one that does not exist"])
async def test_a_suggestion_without_a_place_to_ask_opens_at_once(database_url, tmp_path, place):
    folder = write_config(
        tmp_path / "config",
        tocsin="version: 1\n" + (f"announcement_channel: {place}\n" if place else ""),
        routes="version: 1\nroutes:\n  - {name: ask, match: [], open: suggest}\n",
    )
    async with staged(database_url, folder, app_of_the_bot()) as stage:
        await stage.alert(alertmanager())
        channel = await stage.sandbox.expect_channel("inc-1-*")
        await stage.sandbox.expect_message(channel.id, "INC-1 ·")
        await stage.quiet()
        events = {event.kind: event for event in await stage.timeline()}

    assert "no place to ask" in events["incident.accepted"].text
    assert events["incident.accepted"].actor == "bot"
