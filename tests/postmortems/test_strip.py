"""The picture of a timeline: readable with one event and with thousands, and honest about what it lacks."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.kit.png import draw
from bot.postmortems.strip import strip, words
from tests.postmortems.papers import hostile, many, one, rich, told
from tests.postmortems.story import Story, at

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


def dots(svg: str) -> list[tuple[float, float]]:
    return [(float(e.get("cx")), float(e.get("cy"))) for e in ET.fromstring(svg).iter(f"{SVG}circle")]  # noqa: S314


def test_it_shows_severity_status_moments_and_every_event_by_number_or_in_a_ring():
    shown = texts(strip(rich()).svg)

    assert {"SEV2", "SEV1", "investigating", "monitoring", "Severity", "Status"} <= set(shown)
    assert "detected 14:00:00" in shown
    assert "resolved 14:52:00" in shown
    alone = [text for text in shown if text.isdigit()]
    rings = [int(text[1:]) for text in shown if re.fullmatch(r"×\d+", text)]
    assert len(alone) + sum(rings) == rich().events == 20


def test_the_same_facts_give_the_same_picture():
    assert strip(rich()).svg == strip(type(rich()).from_json(rich().as_json())).svg


def test_events_of_a_lane_never_lie_on_each_other():
    places = dots(strip(many()).svg)

    assert len(places) < 250
    for y in {y for _, y in places}:
        row = sorted(x for x, other in places if other == y)
        assert all(b - a >= 21.9 for a, b in pairwise(row))


def test_a_storm_says_how_many_events_are_not_drawn():
    picture = strip(many())

    assert "4002 events between the first and the last 500 are not drawn" in texts(picture.svg)
    assert len(picture.svg) < 60_000


def test_a_moment_that_is_not_recorded_is_said_with_its_reason():
    picture = strip(one())

    assert "Resolved: not recorded, the incident is not resolved yet" in texts(picture.svg)
    assert "resolved not recorded: the incident is not resolved yet" in picture.words


def test_what_came_long_after_the_end_is_counted_and_does_not_squeeze_the_rest():
    story = Story()
    story.open()
    story.resolve(60)
    story.say(60 * 24 * 30, "followup.done", "T1 done", task="x")

    shown = texts(strip(told(story)).svg)

    assert "1 event after the end not drawn" in shown
    assert "mitigated, resolved 15:00:00" in shown


def test_facts_without_any_time_have_no_picture():
    assert strip(replace(rich(), severities=(), statuses=(), moments=())) is None


def test_the_words_say_what_the_picture_shows():
    said = words(rich())

    assert said.startswith(
        "Timeline of INC-42; SEV2 from 2026-03-02 14:02 UTC; SEV1 from 2026-03-02 14:09 UTC; detected"
    )
    assert "20 events (alerts 1, paging 1, people 6, notes 3, runbooks 8, other 1)." in said


def test_a_hostile_title_is_text():
    picture = strip(hostile()).svg

    assert "<script" not in picture
    assert "<script>alert(1)</script>" in texts(picture)[0]


@pytest.mark.parametrize("facts", [rich, many, one], ids=["rich", "many", "one"])
def test_it_can_be_drawn_as_png_with_its_text(facts):
    svg = strip(facts()).svg

    picture = draw(svg, 960)

    assert picture.startswith(b"\x89PNG")
    assert len(picture) > len(draw(re.sub(r"<text.*?</text>", "", svg), 960)) + 1000
    assert picture == draw(svg, 960)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-1e5, 1e6), st.sampled_from(["note.added", "alert.attached", "run.started", "x.y"])),
        max_size=30,
    ),
    st.one_of(st.none(), st.floats(0, 1e6)),
    st.text(max_size=20),
)
def test_any_story_gives_a_picture_that_is_xml_and_stays_inside(events, end, title):
    story = Story(title=title)
    story.open()
    for minutes, kind in events:
        story.say(minutes, kind, "x")
    if end is not None:
        story.resolve(end)

    picture = strip(told(story))

    root = ET.fromstring(picture.svg)  # noqa: S314
    tall = float(root.get("height"))
    assert all(0 <= x <= 960 and 0 <= y <= tall for x, y in dots(picture.svg))


def test_a_severity_that_held_for_a_moment_is_still_seen():
    story = Story()
    story.open()
    story.say(5, "severity.changed", "x", from_="SEV2", to="SEV1")
    story.say(5 + 1 / 60, "severity.changed", "x", from_="SEV1", to="SEV3")
    story.resolve(600)

    bars = [e for e in ET.fromstring(strip(told(story)).svg).iter(f"{SVG}rect") if e.get("fill") == "#b42318"]  # noqa: S314

    assert [float(bar.get("width")) for bar in bars] == [2.0]
    assert at(5) + timedelta(seconds=1) < at(600)
