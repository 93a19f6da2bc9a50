"""The form that publishes: valid whatever it holds, and never filled in with what is not for the public."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.incidents.model import Incident, Status, TimelineEvent
from bot.incidents.statuspage import Page
from bot.sandbox import blocks as kit
from bot.slack.views import statuspage as views

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def incident(**more):
    usual = {"status": Status.FIXING, "service": "checkout", "is_open": True, "title": "5xx on web-1"}
    return Incident(id="i1", number=7, severity="SEV1", detected_at=NOW, opened_at=NOW, **{**usual, **more})


@settings(max_examples=50, deadline=None)
@given(service=st.none() | st.text(max_size=300), text=st.text(max_size=5000), last=st.none() | st.text(max_size=5000))
def test_it_is_valid_whatever_it_holds(service, text, last):
    event = (
        None
        if last is None
        else TimelineEvent(id="e", incident_id="i1", kind="statuspage.published", text=last, at=NOW, recorded_at=NOW)
    )
    pages = [Page(f"page-{n}", {service or "x": ["c1"]}, auto=n == 1) for n in range(7)]

    view = views.form(incident(service=service), pages, event, text)

    assert not kit.validate_view(view), [str(problem) for problem in kit.validate_view(view)]


def test_the_incidents_own_title_is_not_filled_in():
    view = views.form(incident(), [Page("public", {"checkout": ["c1", "c2"]})], None, "")

    assert "5xx" not in str(view)
    assert "2 components of checkout" in str(view)
    assert "Nothing was published yet" in str(view)


def test_it_begins_with_how_the_incident_stands():
    def first(**more):
        blocks = views.form(incident(**more), [Page("public")], None, "")["blocks"]
        menus = {block["block_id"]: block["element"] for block in blocks if block.get("block_id")}
        return tuple(menus[name]["initial_option"]["value"] for name in ("status", "component"))

    assert first() == ("identified", "unchanged")
    assert first(status=Status.MONITORING) == ("monitoring", "unchanged")
    assert first(status=Status.DOCUMENTING, is_open=False) == ("resolved", "operational")
