"""The slack step: what the author wrote is markup, what is filled in is text."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.shelf import Shelf
from bot.kit.tasks import spawn
from bot.runs.redact import MASK, Redactor
from bot.runs.runbook import LintError, load
from bot.runs.step import Cancelled, StepContext, prepare
from bot.steps import slack as step


class Room:
    """Keeps what is said, or fails, or takes its time."""

    def __init__(self, *, error: Exception | None = None, seconds: float = 0.0) -> None:
        self.said: list[dict] = []
        self.error, self.seconds = error, seconds

    async def post(self, text: str, **how) -> dict[str, str]:
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        self.said.append({"text": text, **how})
        return {"ts": "12.5", "permalink": "https://chat.example.com/12.5"}


@pytest.fixture
def room() -> Room:
    return Room()


async def test_it_is_said_in_the_incidents_channel_under_the_key_of_the_step(run, room):
    values = {"params": {"what": "api & co"}}
    result = await run(step, {"text": "*Done*: {{ params.what }}"}, run_id="run1", room=room, values=values)

    assert room.said == [
        {
            "text": "*Done*: api &amp; co",
            "channel": None,
            "thread": False,
            "broadcast": False,
            "key": "run:run1:step",
        }
    ]
    assert result.ok
    assert result.values == {"ts": "12.5", "permalink": "https://chat.example.com/12.5"}
    assert result.summary == "said: *Done*: api & co"


async def test_another_channel_and_the_thread_are_handed_on(run, room):
    await run(step, {"text": "x", "channel": "#{{ params.team }}"}, room=room, values={"params": {"team": "ops"}})
    await run(step, {"text": "x", "thread": True}, room=room)
    await run(step, {"text": "x", "broadcast": True}, room=room)

    assert [(one["channel"], one["thread"], one["broadcast"]) for one in room.said] == [
        ("#ops", False, False),
        (None, True, False),
        (None, True, True),
    ]


async def test_the_author_may_mention_and_values_may_not(run, room):
    values = {"alert": {"title": "<!channel> <@U123> <https://x.example|bank> @here *b* `c` &lt;!here&gt;"}}

    await run(step, {"text": "<!here> <@U1ONCALL>: {{ alert.title }} <#C1>"}, room=room, values=values)

    text = room.said[0]["text"]
    assert text.startswith("<!here> <@U1ONCALL>: &lt;!channel&gt; &lt;@U123&gt; &lt;https://x.example|bank&gt;")
    assert text.endswith("&amp;lt;!here&amp;gt; <#C1>")
    assert "@here" not in text


@given(st.text())
def test_no_value_opens_anything(value):
    shown = step._harmless("", value)

    assert not {"<", ">"} & set(shown)
    assert "@channel" not in shown


@given(st.one_of(st.none(), st.integers(), st.lists(st.text())))
def test_values_of_any_kind_are_written_out(value):
    assert isinstance(step._harmless("", value), str)


async def test_a_secret_that_got_into_the_text_is_hidden(run, room):
    await run(step, {"text": "the key is {{ params.k }}"}, room=room, values={"params": {"k": "s"}})
    context = StepContext("run1", "step", room=room, redact=Redactor(["hunter22"]), values={"x": {"y": "hunter22"}})
    await step.run(context, prepare(step, {"text": "it is {{ x.y }} for <@U1>"}, context))

    assert room.said[1]["text"] == f"it is {MASK} for <@U1>"


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"text": ""}, "text"),
        ({"text": " \n "}, "nothing to say"),
        ({"text": "x", "channel": "a b"}, "channel"),
        ({"text": "x", "channel": "<!channel>"}, "channel"),
        ({"text": "x", "channel": "#ops", "thread": True}, "go with no channel"),
        ({"text": "x", "thread": "yes"}, "thread: must be true or false"),
    ],
)
async def test_what_does_not_fit_is_refused(run, room, raw, told):
    with pytest.raises(PermanentError, match=told):
        await run(step, raw, room=room)
    assert room.said == []


async def test_a_text_without_end_is_cut(run, room):
    await run(step, {"text": "{{ params.x }}"}, room=room, values={"params": {"x": "y" * 50_000}})

    assert len(room.said[0]["text"]) == step.LIMIT


@pytest.mark.parametrize("error", [TemporaryError("Slack is away"), PermanentError("the channel is archived")])
async def test_what_the_chat_says_is_passed_on(run, error):
    with pytest.raises(type(error), match=str(error)):
        await run(step, {"text": "x"}, room=Room(error=error))


async def test_cancelling_ends_it(run):
    cancelled = asyncio.Event()
    task = spawn(run(step, {"text": "x"}, room=Room(seconds=30), cancelled=cancelled), name="test")
    await asyncio.sleep(0.05)
    cancelled.set()

    with pytest.raises(Cancelled):
        await task


async def test_it_takes_no_longer_than_it_may(run):
    with pytest.raises(TemporaryError, match=r"within 0\.1 s"):
        await run(step, {"text": "x"}, room=Room(seconds=30), timeout=0.1)


async def test_where_there_is_no_room_it_says_so(run):
    with pytest.raises(PermanentError, match="no channel to speak in"):
        await run(step, {"text": "x"})


def test_the_preview_shows_the_words():
    params = step.Params.model_validate({"text": "a &amp; b &lt;c&gt;", "channel": "#ops"})

    assert step.preview(params) == "would say in #ops: a & b <c>"


def test_a_runbook_may_quote_the_alert_and_no_secret():
    shelf = Shelf("bot.steps", must_have=("Params", "run")).load()
    head = "version: 1\nid: demo\nname: x\nowner: x\nsecrets: [KEY]\nsteps:\n"

    assert load(head + "  - slack: {text: '{{ alert.title }}'}\n", "demo.yaml", shelf)
    with pytest.raises(LintError, match="secrets go only into"):
        load(head + "  - slack: {text: '{{ secrets.KEY }}'}\n", "demo.yaml", shelf)
    with pytest.raises(LintError, match="not allowed here"):
        load(head + "  - slack: {text: x, channel: '{{ alert.labels.team }}'}\n", "demo.yaml", shelf)
