"""Whatever an incident is called and however many alerts it has: what is shown is valid, and mentions nobody."""

import json
import re
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bot.alerts.model import AlertRow
from bot.catalog.services import Catalog, Directory, Place, Service
from bot.incidents.budget import Spent
from bot.incidents.chat import Announcement, Card, Cleared, Closing, Notice, Offer, Remark, Todo, Unfurnished
from bot.incidents.model import Incident, Page, Part, Role, Sev, Status, TimelineEvent
from bot.incidents.oncall import Contact, Duty, Standing
from bot.incidents.services import About, Need
from bot.incidents.shifts import Handover
from bot.kit.text import inert
from bot.runs import live as lives
from bot.runs.approval import Asked
from bot.runs.assets import Looked
from bot.runs.form import Change, Field, Sheet
from bot.runs.model import Approval, ApprovalState, AssetReport, Run, Trigger, Vote
from bot.runs.overview import CatchUp, Listed, Waiting
from bot.runs.params import Param
from bot.runs.runbook import Runbook
from bot.sandbox import blocks as kit
from bot.sandbox import render
from bot.slack.app import draw
from bot.slack.inbox import carrying
from bot.slack.views import approval as approval_views
from bot.slack.views import asset as asset_views
from bot.slack.views import blocks, catchup, forms
from bot.slack.views import incident as views
from bot.slack.views import oncall as oncall_views
from bot.slack.views import runbook as runbook_views
from bot.slack.views import service as service_views

NOW = datetime(2026, 11, 20, 3, 14, tzinfo=UTC)
NASTY = [
    *(
        "<!channel>",
        "@channel",
        "@here",
        "<@U1|x>",
        "&amp;",
        "<",
        ">",
        "&",
        "*",
        "_",
        "`",
        "```",
        "\x00",
        "\u202e",
        "\n",
    ),
    *("https://evil.example/x", "<https://evil.example|ok>", "🔥", ":fire:", "家", "é", " ", "a" * 200, "<#C1>"),
]
wild = st.one_of(st.text(max_size=80), st.lists(st.sampled_from(NASTY), max_size=40).map("".join))
long = st.one_of(wild, st.integers(1, 4000).map("<".__mul__), st.integers(1, 4000).map("x".__mul__))
link = st.one_of(wild, st.integers(0, 3000).map(lambda n: "https://graph.example/" + "g&" * n))


numbers = st.one_of(st.none(), st.integers(-(10**15), 10**15), st.floats(0, 1e15))


@st.composite
def alerts(draw_):
    return AlertRow(
        id="a", connection="c", source="s", fingerprint="f", dedup_key="d", title=draw_(long), severity="critical",
        state=draw_(st.sampled_from(["firing", "resolved"])), labels={"instance": draw_(wild)}, url=draw_(link) or None,
        annotations={"runbook_url": draw_(link)}, starts_at=NOW, last_seen_at=NOW,
    )  # fmt: skip


@st.composite
def abouts(draw_):
    names = st.lists(long, max_size=20)
    service = Service(
        owner=draw_(long), description=draw_(long), tier=draw_(wild), channel=draw_(wild),
        runbooks=tuple(draw_(names)),
    )  # fmt: skip
    links = {f"{draw_(wild)} {n}": "https://grafana.example.com/" + "x" * 900 for n in range(draw_(st.integers(0, 20)))}
    share = st.one_of(st.none(), st.floats(-50, 50))
    return About(
        draw_(long),
        service.model_copy(update={"dashboards": links, "links": links}),
        tuple(Need(name, ("INC-1",) * draw_(st.integers(0, 9))) for name in draw_(names)),
        draw_(st.one_of(st.none(), st.builds(Spent, st.just(99.9), st.just(timedelta(days=30)), share, share, wild))),
    )


@st.composite
def standings(draw_):
    duties = [
        Duty(
            name=draw_(long), email=f"{n}@example.com", level=draw_(st.integers(1, 9)),
            until=draw_(st.sampled_from([NOW, None])),
            contacts=tuple(Contact(kind=draw_(wild), address=draw_(long)) for _ in range(draw_(st.integers(0, 6)))),
        )
        for n in range(draw_(st.sampled_from([0, 1, 3, 30])))
    ]  # fmt: skip
    kind = draw_(st.sampled_from(["list", "schedule", "policy"]))
    told = draw_(st.sampled_from([None, NOW - timedelta(hours=2)]))
    return Standing(
        Place(kind, "P1"), draw_(long), tuple(duties), draw_(st.booleans()), told, draw_(st.one_of(st.none(), long))
    )


@st.composite
def pages(draw_):
    at = st.one_of(st.none(), st.just(NOW))
    return Page(
        id="p", incident_id="i", number=draw_(st.integers(1, 9)), pager=draw_(wild), detail="x", at=NOW,
        outcome=draw_(st.sampled_from(["sending", "sent", "failed", "nobody"])), service=draw_(st.none() | long),
        external_id=draw_(st.none() | wild), url=draw_(link) or None, assigned=draw_(st.none() | long),
        acknowledged_at=draw_(at), acknowledged_by=draw_(st.sampled_from([None, "U1ALICE", "<!channel>", "x" * 300])),
        resolved_at=draw_(at),
    )  # fmt: skip


@st.composite
def cards(draw_):
    resolved = draw_(st.booleans())
    incident = Incident(
        id="i" * 32, number=draw_(st.integers(1, 10**6)), title=draw_(long), summary=draw_(long),
        severity=draw_(st.sampled_from(list(Sev))), status=draw_(st.sampled_from(list(Status))), is_open=not resolved,
        private=draw_(st.booleans()), service=draw_(st.one_of(st.none(), long)),
        channel=draw_(st.sampled_from([None, "C1"])),
        detected_at=NOW, opened_at=NOW, resolved_at=NOW + timedelta(hours=1) if resolved else None,
    )  # fmt: skip
    role = st.sampled_from(["commander", "responder"])
    return Card(
        incident=incident,
        roles=[Role(id="r", incident_id="i", name=draw_(role), person="U1", assigned_by="U1", assigned_at=NOW)
               for _ in range(draw_(st.integers(0, 30)))],
        alerts=draw_(st.lists(alerts(), max_size=8)),
        firing=draw_(st.integers(0, 500)),
        total=draw_(st.integers(0, 1000)),
        todo=draw_(st.integers(0, 99)),
        failed=[Part(incident_id="i", name="pin", state="failed", error=draw_(long), changed_at=NOW)
                for _ in range(draw_(st.integers(0, 9)))],
        pages=draw_(st.lists(pages(), max_size=5)),
        offers=[Offer(f"r{n}", draw_(wild), "high") for n in range(draw_(st.integers(0, 8)))],
        about=draw_(st.one_of(st.none(), abouts())),
    )  # fmt: skip


def sound(text: str, body: list, surface: str = "message") -> None:
    assert text
    assert len(text) <= 4000
    assert not kit.validate_blocks(body, surface), [str(p) for p in kit.validate_blocks(body, surface)]
    assert kit.text_length(body) <= kit.CUMULATIVE
    for said in (text, *render.mrkdwn(body)):
        assert not re.search(r"<!(?!date\^)", said)
        assert not re.search(r"@(channel|here|everyone)", re.sub(r"<https?://[^>|]*", "", said))  # but in addresses
        assert "\x00" not in said
        assert "\u202e" not in said
        # What stands in angle brackets is ours: people, channels, dates, and whole http links.
        for inside in re.findall(r"<([^>]*)>?", said):
            assert re.match(r"@U|#C|!date\^|https?://", inside), inside
        assert not re.search(r"&(?!amp;|lt;|gt;)", said)


@settings(max_examples=40, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(cards(), long)
def test_every_message_about_an_incident_is_valid_and_mentions_nobody(card, note):
    nouns = [
        card,
        Announcement(card),
        Cleared(card.incident),
        Cleared(card.incident, silent=3),
        Closing(card.incident, note),
        Unfurnished(card),
    ]
    remarks = [Remark(f"<@U1> *says*: {inert(note)}"), Remark("\n".join([inert(note)[:2900]] * 4)[:12_000])]
    for noun in [*nouns, *remarks, Notice(f"<@U1>: {note}"), Todo(f"Task T1: {note} for <@U1>", "t")]:
        sound(*draw(noun))
    sound(*views.listing([card.incident] * 40, open_only=True))
    sound(*views.listing([], open_only=False))
    sound(*runbook_views.listing(card.incident, card.offers * 20, hidden=3))
    sound(*runbook_views.listing(card.incident, [], hidden=1))


KINDS = ("string", "int", "number", "bool", "choice", "duration", "user", "secret", "list")


@st.composite
def run_fields(draw_):
    kind = draw_(st.sampled_from(KINDS))
    choices = draw_(st.one_of(st.none(), st.lists(wild, min_size=1, max_size=130)))
    param = Param(
        type=kind, label=draw_(st.one_of(st.none(), wild.filter(bool))), help=draw_(wild),
        required=draw_(st.booleans()), choices=choices,
        min=draw_(st.sampled_from([None, 0])), max=draw_(st.sampled_from([None, 10**9, 0.5])),
    )  # fmt: skip
    value = {
        "int": draw_(st.one_of(st.none(), st.integers(-(10**15), 10**15))), "number": draw_(numbers),
        "bool": draw_(st.booleans()), "user": draw_(st.sampled_from([None, "U1"])),
        "list": draw_(st.lists(wild, max_size=20)), "choice": draw_(st.sampled_from(choices or [None])),
    }.get(kind, draw_(long))  # fmt: skip
    looked = draw_(st.one_of(st.none(), st.lists(wild, min_size=1, max_size=600)))
    return Field(f"p{draw_(st.integers(0, 10**6))}", param, value, looked, draw_(wild), draw_(st.integers(0, 5)))


@st.composite
def books(draw_):
    names = draw_(st.lists(wild.filter(bool), min_size=1, max_size=100))
    steps = [{"key": str(i), "type": "wait", "action": {}, "name": name} for i, name in enumerate(names)]
    return Runbook(
        sha256="0" * 64, version=1, id="book", name=draw_(wild.filter(bool))[:75], owner=draw_(wild), docs=draw_(link),
        description=draw_(long), risk=draw_(st.sampled_from(["low", "medium", "high"])), steps=steps,
    )  # fmt: skip


changes = st.builds(Change, wild, st.sampled_from(["read", "write", "destructive"]), st.booleans())


@settings(max_examples=60, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(cards(), long, books(), st.lists(run_fields(), max_size=95, unique_by=lambda one: one.name), st.lists(changes))
def test_every_form_is_valid(card, text, book, fields, changed):
    live = {one.name: lives.mark(one.choices[:500]) for one in fields[:1] if one.choices}
    run = runbook_views.form(Sheet(card.incident, book, fields, changed, live))
    every = [
        run, forms.declare(title=text), forms.resolve("i" * 32), forms.loading("Run a runbook"),
        forms.trouble(text, text), views.here(card.incident), runbook_views.shelf(card.incident, card.offers * 20, 2),
        forms.with_word(run, f":warning: {blocks.safe(text)}"),
    ]  # fmt: skip
    for view in every:
        assert not kit.validate_view(view), [str(p) for p in kit.validate_view(view)]
    assert "e+" not in str([block for block in run["blocks"] if block["type"] == "input"])
    place = {"channel": "C" * 11, "url": "https://hooks.slack.example/" + "x" * 150, "until": 1e9}
    carried = carrying(run, place)["private_metadata"]
    assert len(carried) <= 3000
    assert json.loads(carried)["runbook"] == "book"


@st.composite
def questions(draw_):
    run = Run(
        id="r", incident_id="i", number=1, runbook="r", sha256="0", definition={}, requested_by="U0ALICE",
        concurrency_key="k", state="waiting_approval", requested_at=NOW, trigger=draw_(st.sampled_from(list(Trigger))),
    )  # fmt: skip
    reason = draw_(st.booleans())
    approval = Approval(
        id="a" * 32, run_id="r", step_id="s", incident_id="i", prompt=draw_(long),
        plan=draw_(st.lists(long, max_size=99)), who=draw_(st.lists(wild, max_size=20)),
        count=draw_(st.integers(1, 5)), require_reason=reason,
        inputs={one.name: one.param.model_dump(mode="json") for one in draw_(st.lists(run_fields(), max_size=5))},
        sha256="0", digest="0", state=draw_(st.sampled_from(list(ApprovalState))), told=draw_(long),
        asked_at=NOW, expires_at=NOW + timedelta(minutes=20),
    )  # fmt: skip
    votes = [
        Vote(id="v", approval_id="a", person=f"U{n}", yes=draw_(st.booleans()), reason=draw_(long), at=NOW)
        for n in range(draw_(st.integers(0, 5)))
    ]
    return Asked(approval, run, draw_(cards()).incident, draw_(books()), votes)


@settings(max_examples=60, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(questions())
def test_every_question_is_valid_mentions_nobody_and_is_answered_only_while_it_is_asked(asked):
    text, body = draw(asked)
    sound(text, body)
    buttons = [element["action_id"] for block in body if block["type"] == "actions" for element in block["elements"]]
    plain, with_form = ["approval.approve", "approval.reject"], ["approval.approve_with", "approval.reject_with"]
    more = asked.approval.require_reason or asked.approval.inputs
    assert buttons == ((with_form if more else plain) if asked.approval.state == ApprovalState.ASKED else [])
    for yes in (True, False):
        view = approval_views.form(asked, yes=yes)
        assert not kit.validate_view(view), [str(p) for p in kit.validate_view(view)]
        assert json.loads(view["private_metadata"])["approval"] == asked.approval.id


@settings(max_examples=40, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(cards(), st.lists(questions(), max_size=12), st.lists(long, max_size=12))
def test_what_somebody_who_comes_late_is_shown_is_valid(card, asked, told):
    events = [
        TimelineEvent(id="e", incident_id="i", kind="note.added", text=text, at=NOW, recorded_at=NOW) for text in told
    ]
    runs = [Listed(one.run, "1.2") for one in asked]
    noun = CatchUp(card, runs, [Waiting(one.approval, 1, "1.2") for one in asked], events)
    sound(*catchup.catch_up(noun, lambda channel, ts: f"https://x.example/{channel}/{ts}", NOW))


def test_a_cut_never_leaves_half_of_an_entity_a_mention_or_a_link():
    for limit in range(1, 60):
        for text in ("&amp;" * 20, "<@U01ALICE> " * 9, "<https://a.example/x?y|label> tail " * 3):
            kept = blocks.cut(text, limit)
            assert len(kept) <= limit
            assert not re.search(r"&[a-z]*…|<[^>]*…", kept)


def test_only_mentions_of_people_pass_and_only_in_our_own_text():
    assert (
        blocks.people("<@U01ALICE> says <!channel> & <@here>")
        == "<@U01ALICE> says &lt;!channel&gt; &amp; &lt;@\u200bhere&gt;"
    )
    assert blocks.safe("<@U01ALICE>") == "&lt;@U01ALICE&gt;"
    assert blocks.safe("*b* web_1 `c`") == "*\u200bb* web_1 `\u200bc`\u200b"
    assert blocks.link("javascript:alert(1)", "x") == "x"
    assert blocks.link("https://a.example/?a=1&b=2", "two\nlines") == "<https://a.example/?a=1&amp;b=2|two lines>"
    assert blocks.mentions("<@U01ALICE> in <#C01GENERAL>, not <!here>", 250).endswith("not &lt;!here&gt;")


def page(**more) -> Page:
    given = {"id": "p", "incident_id": "i", "number": 1, "pager": "pd", "outcome": "sent", "detail": "x", "at": NOW}
    return Page(**{**given, **more})


def shown(*found: Page) -> tuple[str, list[str]]:
    """What the card says of paging, and its buttons."""
    incident = Incident(
        id="i" * 32, number=1, title="Down", severity="SEV1", status="investigating", channel="C1", detected_at=NOW,
        opened_at=NOW,
    )  # fmt: skip
    _, body = views.card(Card(incident, pages=found))
    field = next((one["text"] for one in body[1]["fields"] if "*Paging*" in one["text"]), "")
    buttons = [one["text"]["text"] for block in body if block["type"] == "actions" for one in block["elements"]]
    return field.removeprefix("*Paging*\n"), buttons


def test_the_card_says_how_the_page_stands_and_offers_to_acknowledge_while_nobody_has():
    waits, buttons = shown(page(assigned="Bob", url="https://pd.example.com/P1", external_id="P1"))
    assert waits == ":pager: sent (by pd), with Bob, not acknowledged · <https://pd.example.com/P1|P1>"
    assert "Acknowledge" in buttons
    taken, buttons = shown(page(acknowledged_at=NOW, acknowledged_by="UALICE"))
    assert taken.startswith(":ok_hand: acknowledged by <@UALICE> <!date^")
    assert "Acknowledge" not in buttons
    assert shown(page(outcome="sending"))[0] == ":hourglass_flowing_sand: not sent yet (by pd)"
    assert shown(page(outcome="failed"))[0] == ":x: failed (by pd)"
    assert shown(page(resolved_at=NOW))[0] == ":white_check_mark: resolved (by pd)"


def test_of_several_pages_the_newest_of_each_service_is_shown_and_what_waits_first():
    told, _ = shown(
        page(acknowledged_at=NOW, acknowledged_by="Alice"),
        page(number=2, acknowledged_at=NOW, acknowledged_by="Bob"),
        page(number=3, service="search"),
    )

    first, second = told.splitlines()
    assert first.startswith("search: :pager: sent")
    assert "acknowledged by Bob" in second


@settings(max_examples=20, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(st.lists(standings(), max_size=40), long, st.lists(long, max_size=40), cards())
def test_who_is_on_call_and_a_hand_over_are_shown_within_what_slack_takes(found, about, people, card):
    sound(*oncall_views.on_call(found, lambda duty: (duty.name, False), NOW, about=about))
    incidents = [card.incident] * 30
    noun = Handover(about, people, people, NOW, incidents, 7, 8, people)
    sound(*draw(noun))
    here = [oncall_views.Here("U1", "responder", NOW)] * 200
    sound(*oncall_views.responders(card.incident, here, card.pages))


@settings(max_examples=20, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(abouts(), st.lists(long, max_size=80), cards())
def test_a_service_and_its_assets_are_shown_within_what_slack_takes(about, lines, card):
    text = [blocks.safe(line, 300) for line in lines]
    whole = service_views.Whole(about, blocks.safe("team"), text, text, [card.incident] * 50, (), lines, text)
    sound(*service_views.whole(whole))
    catalog = Catalog().model_copy(update={"services": {f"s{n}": about.service for n in range(100)}})
    sound(*service_views.listing(Directory(catalog)))
    report = AssetReport(asset="a", kind="drift", ok=False, text=about.name, runbook="r", run_id="r", at=NOW)
    sound(*asset_views.listing([Looked(name, None, [report] * 9) for name in lines]))
