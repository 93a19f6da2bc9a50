"""How a run of a runbook looks: one message, drawn anew while it goes on; and lists of runs."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bot.incidents.model import Incident
from bot.kit.clock import duration_text
from bot.kit.text import clip, one_line
from bot.runs.model import ENDED, Phase, Run, RunState, RunStep, StepState, Trigger
from bot.runs.overview import Listed
from bot.runs.run import Shown
from bot.runs.runbook import Step
from bot.slack import ids
from bot.slack.views.blocks import (
    Block,
    actions,
    button,
    code,
    context,
    cut,
    escaped,
    link,
    moment,
    paragraphs,
    safe,
    section,
)

Drawn = tuple[str, list[Block]]

STEP = {
    StepState.PENDING: ":white_small_square:",
    StepState.RUNNING: ":hourglass_flowing_sand:",
    StepState.SUCCEEDED: ":white_check_mark:",
    StepState.FAILED: ":x:",
    StepState.FAILED_IGNORED: ":warning:",
    StepState.SKIPPED: ":heavy_minus_sign:",
    StepState.CANCELLED: ":no_entry_sign:",
    StepState.UNKNOWN: ":grey_question:",
    StepState.PREVIEWED: ":eyes:",
}
RUN = {
    RunState.QUEUED: (":hourglass:", "is about to start"),
    RunState.RUNNING: (":gear:", "is running"),
    RunState.ASKING: (":grey_question:", "needs an answer"),
    RunState.WAITING: (":raised_hand:", "waits for approval"),
    RunState.SUCCEEDED: (":white_check_mark:", "succeeded"),
    RunState.FAILED: (":x:", "failed"),
    RunState.ROLLED_BACK: (":leftwards_arrow_with_hook:", "failed and was rolled back"),
    RunState.ROLLBACK_FAILED: (":rotating_light:", "failed, and so did its rollback"),
    RunState.CANCELLED: (":no_entry_sign:", "was cancelled"),
    RunState.REJECTED: (":x:", "was rejected"),
    RunState.EXPIRED: (":hourglass:", "was not approved in time"),
    RunState.TIMED_OUT: (":alarm_clock:", "took too long"),
    RunState.DRY_RUN: (":eyes:", "looked, and changed nothing"),
}
PHASES = {
    Phase.ROLLBACK: ("takes back what it did", ":leftwards_arrow_with_hook: *Rollback*"),
    Phase.ON_FAILURE: ("tidies up after the failure", ":x: *After the failure*"),
    Phase.ALWAYS: ("comes to its end", ":checkered_flag: *Always at the end*"),
}
# Slack takes about 12,000 characters of text in one message; this is for the lines of the steps.
ROOM = 5000
ITEMS = 5
NEWS = (StepState.RUNNING, StepState.FAILED, StepState.FAILED_IGNORED, StepState.UNKNOWN)
INDENT = "\u2003\u2003"
BELOW = re.compile(r"(.+?)(?:\[\d+\]|/(?:steps|on_failure|always)\.\d+|\.(?:rollback|on_failure)\.\d+)")


@dataclass(frozen=True)
class Line:
    """One line about a step: what it says at most, and what is told of it below. *news*: it must not be left out."""

    mark: str
    name: str
    small: str = ""
    told: str = ""
    depth: int = 0
    news: bool = False
    pending: bool = False

    def draw(self, title: int, *, told: bool) -> str:
        """The line, with so much of its name."""
        text = f"{INDENT * self.depth}{self.mark} {safe(self.name, title)}{self.small}"
        return text + (f"\n{INDENT * (self.depth + 1)}↳ {self.told}" if told and self.told else "")


def run(noun: Shown) -> Drawn:
    """The message of one run."""
    row = noun.run
    mark, told = RUN[RunState(row.state)][0], state(row)
    took = _took(noun)
    head = f"{mark} *Run {row.number}: {safe(noun.runbook.name, 100)}* {told}" + (f" after {took}" if took else "")
    blocks: list[Block] = [section(head)]
    blocks += _steps(noun)
    if noun.tail and row.state == RunState.RUNNING:
        blocks.append(section(_end_of("\n".join(noun.tail), 1500)))
    if row.failure and row.failure.get("message"):
        where, why = row.failure.get("step", ""), row.failure["message"]
        place = f"*{safe(where, 150)}*: " if where else ""
        blocks.append(section(f":x: {place}{_known(noun, why, 500)}"))
        blocks += _last_output(noun)
    if row.state == RunState.ASKING and (asked := noun.asking):
        blocks.append(_question(noun, asked))
    blocks.append(context(*_small(noun)))
    if buttons := _buttons(noun):
        blocks.append(actions(*buttons))
    return f"Run {row.number}: {safe(noun.runbook.name, 100)} {told}", blocks


def state(row: Run) -> str:
    """How a run stands, in words."""
    if row.state == RunState.QUEUED and row.held:
        return "waits its turn"
    if row.state in (RunState.QUEUED, RunState.RUNNING):
        if row.phase in PHASES:
            return PHASES[Phase(row.phase)][0]
        if row.cancelled_by:
            return "is being cancelled"
    return RUN[RunState(row.state)][1]


def _buttons(noun: Shown) -> list[Block]:
    row = noun.run
    if row.state == RunState.ASKING:
        back = "Roll back" if noun.revertible else "Give up"
        told = "End the run here" + (" and take back what it has changed?" if noun.revertible else "?")
        return [
            button("Run again", ids.REPEAT_STEP, row.id, confirm=("Run this step a second time?", "Run again")),
            button("Treat as done", ids.ACCEPT_STEP, row.id),
            button(back, ids.ABANDON_RUN, row.id, style="danger", confirm=(told, back)),
        ]
    if row.state == RunState.CANCELLED and noun.revertible:
        confirm = ("Take back what this run has changed, as its runbook says how?", "Roll back")
        return [button("Roll back", ids.ROLL_BACK_RUN, row.id, style="danger", confirm=confirm)]
    goes_on = row.state in (RunState.QUEUED, RunState.RUNNING, RunState.WAITING)
    if goes_on and row.phase == Phase.STEPS and not row.cancelled_by:
        confirm = ("Stop this run? What it has changed so far stays changed.", "Cancel the run")
        return [button("Cancel run", ids.CANCEL_RUN, row.id, style="danger", confirm=confirm)]
    return []


# -- the steps --------------------------------------------------------------------------------------------------------


def _steps(noun: Shown) -> list[Block]:
    """A line for each step, and below it for what it consists of; then what was done after the steps."""
    tree = _Tree(noun)
    parts = [("", tree.steps())]
    for phase, (_, title) in PHASES.items():
        if lines := tree.later(phase):
            parts.append((title, lines))
    return [block for title, lines in _fitting(parts) for block in paragraphs([*([title] if title else []), *lines])]


class _Tree:
    """The rows of a run by what stands below what, in the order in which they were begun."""

    def __init__(self, noun: Shown) -> None:
        self.noun = noun
        self.rows = {row.path: row for row in noun.steps}
        self.below: dict[str, list[RunStep]] = {}
        for row in noun.steps:
            self.below.setdefault(self._above(row), []).append(row)

    def _above(self, row: RunStep) -> str:
        """The path of what *row* is a part of, within the same phase; empty at the top."""
        found = BELOW.fullmatch(row.path)
        above = self.rows.get(found[1]) if found else None
        return above.path if above is not None and above.phase == row.phase else ""

    def steps(self) -> list[Line]:
        """Every step of the runbook, begun or not."""
        lines: list[Line] = []
        for i, step in enumerate(self.noun.runbook.steps):
            row = self.rows.get(f"steps.{i}")
            lines += [_pending(step)] if row is None else self._node(row, 0)
        return lines

    def later(self, phase: Phase) -> list[Line]:
        """What was done of a later phase."""
        return [line for row in self.below.get("", ()) if row.phase == phase for line in self._node(row, 0)]

    def _node(self, row: RunStep, depth: int) -> list[Line]:
        below = self.below.get(row.path, [])
        items = [each for each in below if each.path.startswith(f"{row.path}[")]
        own = _line(self.noun, row, depth)
        if items or "items" in row.result:
            own = replace(own, small=f" · {_progress(row, items)}{own.small}")
            interesting = [each for each in items if each.state in NEWS]
            rest = [each for each in below if each not in items]
            below = [*interesting[:ITEMS], *rest]
        return [own, *(line for each in below for line in self._node(each, min(depth + 1, 3)))]


def _progress(row: RunStep, items: Sequence[RunStep]) -> str:
    """How many items of a foreach have come to their end."""
    done = sum(each.state not in (StepState.RUNNING, StepState.UNKNOWN) for each in items)
    given = row.result.get("values", {}).get("count", row.result.get("items"))
    return f"{done} of {given}" if isinstance(given, int) else f"{done} so far"


def _pending(step: Step) -> Line:
    return Line(STEP[StepState.PENDING], step.heading, pending=True)


def _line(noun: Shown, row: RunStep, depth: int) -> Line:
    small = f" · attempt {row.attempt}" if row.attempt > 1 else ""
    if row.ended_at is not None and row.state != StepState.SKIPPED:
        small += f" · {_lasted(row.started_at, row.ended_at)}"
    asks = row.type == "approval" and row.state == StepState.RUNNING
    return Line(
        mark=":raised_hand:" if asks else STEP[StepState(row.state)],
        name=row.name,
        small=small,
        told=_known(noun, _words(noun, row), 200),
        depth=depth,
        news=row.state in NEWS,
    )


def _words(noun: Shown, row: RunStep) -> str:
    """What is said below a step: what came of it, or, where its runbook says so, nothing or the end of its output."""
    found = re.match(r"steps\.(\d+)(?:\[\d+\])?$", row.path)
    place = int(found[1]) if found else len(noun.runbook.steps)
    show = noun.runbook.steps[place].show if place < len(noun.runbook.steps) else "auto"
    if row.state != StepState.SUCCEEDED or show == "auto":
        return row.summary
    if show == "quiet":
        return ""
    return " / ".join(line.strip() for line in row.output.strip().splitlines()[-3:]) or row.summary


Part = tuple[str, list[Line]]


def _fitting(parts: Sequence[Part]) -> list[tuple[str, list[str]]]:
    """The lines as text: of a long run the words about what went well go first, then what is far from the news."""
    for title, told in ((120, lambda line: True), (120, lambda line: line.news), (60, lambda line: False)):
        drawn = [(head, [line.draw(title, told=told(line)) for line in lines]) for head, lines in parts]
        if _size(drawn) <= ROOM:
            return drawn
    for depth, near in ((1, 8), (1, 3), (0, 3), (0, 1)):
        drawn = [
            (head, _squeezed([line for line in lines if line.depth <= depth or line.news], near))
            for head, lines in parts
        ]
        if _size(drawn) <= ROOM:
            return drawn
    left = ROOM
    cut: list[tuple[str, list[str]]] = []
    for head, lines in drawn:
        kept = []
        for line in lines:
            if (left := left - len(line)) < 0:
                break
            kept.append(line)
        if len(kept) < len(lines):
            kept.append(f"_and {len(lines) - len(kept)} more_")
        cut.append((head, kept))
    return cut


def _size(drawn: Iterable[tuple[str, list[str]]]) -> int:
    return sum(len(head) + sum(map(len, lines)) for head, lines in drawn)


def _squeezed(lines: Sequence[Line], near: int) -> list[str]:
    """What is worth reading of many lines, with those *near* it: both ends, where the run is, first and last news."""
    news = [i for i, line in enumerate(lines) if line.news]
    here = max((i for i, line in enumerate(lines) if not line.pending), default=0)
    points = (0, len(lines) - 1, here, *news[:ITEMS], *news[-ITEMS:])
    kept = {point + n for point in points for n in range(-near, near + 1)}
    drawn: list[str] = []
    skipped: list[Line] = []
    for i, line in enumerate(lines):
        if i not in kept:
            skipped.append(line)
            continue
        drawn += [*_left_out(skipped), line.draw(60, told=False)]
        skipped = []
    return [*drawn, *_left_out(skipped)]


def _left_out(skipped: Sequence[Line]) -> list[str]:
    if not skipped:
        return []
    pending = all(line.pending for line in skipped)
    mark = STEP[StepState.PENDING] if pending else skipped[0].mark
    return [f"{mark} _{len(skipped)} more_"]


def _last_output(noun: Shown) -> list[Block]:
    failed = next(
        (step for step in reversed(noun.steps) if step.state == StepState.FAILED and step.output.strip()), None
    )
    return [] if failed is None else [section(_end_of(failed.output, 1200))]


def _end_of(text: str, limit: int) -> str:
    """The last lines of *text* as a code block of about *limit* characters."""
    end = text.rstrip()[-limit:]
    while len(escaped(end)) > limit:
        end = end[len(end) // 4 :]
    return code(end, limit + 6)


def _question(noun: Shown, asked: RunStep) -> Block:
    told = (
        f":grey_question: The bot was interrupted during *{safe(asked.name, 150)}*, which changes something. "
        "Nobody knows whether it ended. Look before you choose."
    )
    return section(told)


# -- what is said small -----------------------------------------------------------------------------------------------


def _small(noun: Shown) -> list[str]:
    row = noun.run
    given = ", ".join(
        f"{name}={_value(value)}" for name, value in row.params.items() if value is not None and not _secret(noun, name)
    )
    small = [by(row) + (" as a dry run" if row.dry_run else "")]
    if row.because:
        small[0] += f": {safe(row.because, 300)}"
    if row.trigger in UNASKED and row.state not in ENDED:
        small.append(f"`/inc auto off {row.runbook}` keeps it from starting so")
    if given:
        small.append(safe(given, 500))
    if row.break_glass:
        small.append(f":rotating_light: without approvals: {safe(row.break_glass, 200)}")
    if row.cancelled_by:
        small.append(f"Cancelled by <@{row.cancelled_by}>")
    if row.outputs:
        small.append("Result: " + safe(", ".join(f"{name}={value}" for name, value in row.outputs.items()), 500))
    if noun.files:
        small.append(f":paperclip: {noun.files} {'file' if noun.files == 1 else 'files'} in the thread")
    return small


# What starts a run without anybody.
UNASKED = (Trigger.AUTO, Trigger.SCHEDULE)


def by(row: Run) -> str:
    """Who or what started a run."""
    match row.trigger:
        case Trigger.AUTO:
            return ":robot_face: Started by itself"
        case Trigger.SCHEDULE:
            return ":calendar: Started on schedule"
        case Trigger.COMMAND:
            return "Started from the command line"
    return f"Started by <@{row.requested_by}>"


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _known(noun: Shown, text: str, limit: int) -> str:
    """*text*, harmless, with those who had a part in the run as mentions."""
    people = {noun.run.requested_by, noun.run.cancelled_by, *noun.people} - {None}
    names = "|".join(
        re.escape(str(one)) for one in sorted(map(str, people)) if re.fullmatch(r"[UW][A-Z0-9]{2,20}", one)
    )
    if not names:
        return safe(text, limit)
    parts = re.split(rf"<@({names})>|\b({names})\b", clip(text, limit))
    told = ""
    for i in range(0, len(parts), 3):
        told += safe(parts[i], limit) if parts[i] else ""
        if i + 1 < len(parts):
            told += f"<@{parts[i + 1] or parts[i + 2]}>"
    return cut(told, limit)


def _secret(noun: Shown, name: str) -> bool:
    param = noun.runbook.params.get(name)
    return param is None or param.type == "secret"


def _took(noun: Shown) -> str:
    row = noun.run
    if row.state not in ENDED or row.ended_at is None:
        return ""
    return _lasted(row.started_at if row.started_at is not None else row.requested_at, row.ended_at)


def _lasted(begun: datetime, ended: datetime) -> str:
    return duration_text(max(timedelta(), ended - begun))  # clocks are put back at times


# -- many runs --------------------------------------------------------------------------------------------------------


def listing(incident: Incident, runs: Sequence[Listed], where: Callable[[str, str], str]) -> Drawn:
    """The runs of an incident, newest first."""
    if not runs:
        text = f"No runbook was run for {incident.reference} yet. `/inc runbook` shows what there is."
        return text, [section(text)]
    head = f"*Runs of {incident.reference}*"
    return f"Runs of {incident.reference}", paragraphs([head, *(line(incident, one, where) for one in runs)])


def line(incident: Incident, one: Listed, where: Callable[[str, str], str]) -> str:
    """One run in a list: how it stands, who started it, when, and where its message is."""
    row = one.run
    dry = " (dry run)" if row.dry_run and row.state != RunState.DRY_RUN else ""
    text = f"{RUN[RunState(row.state)][0]} *Run {row.number}* {safe(clip(one_line(one.name), 80))}{dry} {state(row)}"
    text += f" · {by(row)} {moment(row.requested_at)}"
    url = where(incident.channel, one.ts) if incident.channel and one.ts else ""
    return text + (f" · {link(url, 'show')}" if url else "")
