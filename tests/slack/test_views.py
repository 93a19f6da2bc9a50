"""Whatever an incident is called and however many alerts it has: what is shown is valid, and mentions nobody."""

import re
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bot.alerts.model import AlertRow
from bot.incidents.chat import Announcement, Card, Cleared, Closing, Notice, Offer, Remark, Unfurnished
from bot.incidents.model import Incident, Page, Part, Role, Sev, Status
from bot.kit.text import inert
from bot.sandbox import blocks as kit
from bot.sandbox import render
from bot.slack.app import draw
from bot.slack.views import blocks, forms
from bot.slack.views import incident as views

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
        failed=[Part(incident_id="i", name="pin", state="failed", error=draw_(long), changed_at=NOW)
                for _ in range(draw_(st.integers(0, 9)))],
        pages=[Page(id="p", incident_id="i", number=1, pager=draw_(wild), outcome="nobody", detail="x", at=NOW)
               for _ in range(draw_(st.integers(0, 2)))],
        offers=[Offer(f"r{n}", draw_(wild), "high") for n in range(draw_(st.integers(0, 8)))],
    )  # fmt: skip


def sound(text: str, body: list, surface: str = "message") -> None:
    assert text
    assert len(text) <= 4000
    assert not kit.validate_blocks(body, surface), [str(p) for p in kit.validate_blocks(body, surface)]
    assert kit.text_length(body) <= kit.CUMULATIVE
    for said in (text, *render.mrkdwn(body)):
        assert not re.search(r"<!(?!date\^)", said)
        assert not re.search(r"@(channel|here|everyone)", said)
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
    for noun in [*nouns, *remarks, Notice(f"<@U1>: {note}")]:
        sound(*draw(noun))
    sound(*views.listing([card.incident] * 40, open_only=True))
    sound(*views.listing([], open_only=False))
    sound(*views.offers(card.incident, card.offers))


@settings(max_examples=40, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(cards(), long, wild, st.lists(wild, max_size=100), numbers)
def test_every_form_is_valid(card, text, word, steps, number):
    params = [
        {"name": "a", "type": "string", "label": word or "x", "help": word or None},
        {"name": "n", "type": "number", "label": "n"},
        {"name": "i", "type": "int", "min": 0, "max": 10**9, "label": "i"},
        {"name": "c", "type": "choice", "choices": ["one", "two"], "label": "c"},
        {"name": "b", "type": "bool", "label": "b"},
        {"name": "u", "type": "user", "label": "u"},
    ]
    values = {"a": text, "n": number, "i": 1_500_000, "c": word, "b": True, "u": "U1"}
    run = forms.run(
        incident_id="i" * 32, runbook="r", sha256="0" * 64, name=text, description=text, risk="high",
        params=params, values=values, steps=steps,
    )  # fmt: skip
    every = [
        run, forms.declare(title=text), forms.resolve("i" * 32), forms.loading("Run a runbook"),
        forms.trouble(text, text), views.here(card.incident),
    ]  # fmt: skip
    for view in every:
        assert not kit.validate_view(view), [str(p) for p in kit.validate_view(view)]
    assert "e+" not in str(run)


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
