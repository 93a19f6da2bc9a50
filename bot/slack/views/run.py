"""How a run of a runbook looks: one message, drawn anew while it goes on."""

from bot.kit.clock import duration_text
from bot.runs.model import ENDED, RunState, RunStep, StepState, Trigger
from bot.runs.run import Shown
from bot.runs.runbook import Step
from bot.slack import ids
from bot.slack.views.blocks import Block, actions, button, code, context, escaped, paragraphs, safe, section

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
    RunState.REJECTED: (":no_good:", "was not approved"),
    RunState.EXPIRED: (":hourglass:", "was not approved in time"),
    RunState.CANCELLED: (":no_entry_sign:", "was cancelled"),
    RunState.TIMED_OUT: (":alarm_clock:", "took too long"),
    RunState.DRY_RUN: (":eyes:", "looked, and changed nothing"),
}
MOST = 40
# Slack takes about 12,000 characters of text in one message; this is for the lines of the steps.
ROOM = 6000
TOLD = tuple(StepState)
NEWS = (StepState.RUNNING, StepState.FAILED, StepState.FAILED_IGNORED, StepState.UNKNOWN)


def run(noun: Shown) -> Drawn:
    """The message of one run."""
    row = noun.run
    mark, word = RUN[RunState(row.state)]
    took = _took(noun)
    head = f"{mark} *Run {row.number}: {safe(noun.runbook.name, 100)}* {word}" + (f" after {took}" if took else "")
    blocks: list[Block] = [section(head)]
    blocks += _steps(noun)
    if noun.tail and row.state == RunState.RUNNING:
        blocks.append(section(_end_of("\n".join(noun.tail), 1500)))
    if row.failure and row.failure.get("message"):
        where, why = row.failure.get("step", ""), row.failure.get("message", "")
        blocks.append(section(f":x: *{safe(where, 150)}*: {safe(why, 500)}"))
        blocks += _last_output(noun)
    if row.state == RunState.ASKING and (asked := noun.asking):
        blocks += _question(noun, asked)
    blocks.append(context(*_small(noun)))
    if row.state in (RunState.QUEUED, RunState.RUNNING) and not row.cancelled_by:
        confirm = ("Stop this run? What it has changed so far stays changed.", "Cancel the run")
        blocks.append(actions(button("Cancel run", ids.CANCEL_RUN, row.id, style="danger", confirm=confirm)))
    return f"Run {row.number}: {safe(noun.runbook.name, 100)} {word}", blocks


def _steps(noun: Shown) -> list[Block]:
    """A line for each step; of a long run, the words about what went well go first."""
    known = {step.path: step for step in noun.steps}
    pairs = [(step, known.get(f"steps.{i}")) for i, step in enumerate(noun.runbook.steps[:MOST])]
    for title, told in ((120, TOLD), (120, NEWS), (60, ())):
        lines = [_line(step, row, title, row is not None and row.state in told) for step, row in pairs]
        if sum(map(len, lines)) <= ROOM:
            break
    if len(noun.runbook.steps) > MOST:
        lines.append(f"_and {len(noun.runbook.steps) - MOST} more_")
    return paragraphs(lines)


def _line(step: Step, row: RunStep | None, title: int, told: bool) -> str:
    name = row.name if row else step.heading
    text = f"{STEP[StepState(row.state) if row else StepState.PENDING]} {safe(name, title)}"
    if row is None:
        return text
    if row.attempt > 1:
        text += f" · attempt {row.attempt}"
    if row.ended_at is not None and row.state != StepState.SKIPPED:
        text += f" · {duration_text(row.ended_at - row.started_at)}"
    return text + (f"\n        ↳ {safe(row.summary, 200)}" if told and row.summary else "")


def _last_output(noun: Shown) -> list[Block]:
    failed = next((step for step in reversed(noun.steps) if step.state == StepState.FAILED), None)
    if failed is None or not failed.output.strip():
        return []
    return [section(_end_of(failed.output, 1200))]


def _end_of(text: str, limit: int) -> str:
    """The last lines of *text* as a code block of about *limit* characters."""
    end = text.rstrip()[-limit:]
    while len(escaped(end)) > limit:
        end = end[len(end) // 4 :]
    return code(end, limit + 6)


def _question(noun: Shown, asked: RunStep) -> list[Block]:
    row = noun.run
    return [
        section(
            f":grey_question: The bot was interrupted during *{safe(asked.name, 150)}*, which changes something. "
            "Nobody knows whether it ended. Look before you choose."
        ),
        actions(
            button("Run again", ids.REPEAT_STEP, row.id, confirm=("Run this step a second time?", "Run again")),
            button("Treat as done", ids.ACCEPT_STEP, row.id),
            button("End the run", ids.ABANDON_RUN, row.id, style="danger"),
        ),
    ]


def _small(noun: Shown) -> list[str]:
    row = noun.run
    given = ", ".join(
        f"{name}={value}" for name, value in row.params.items() if value is not None and not _secret(noun, name)
    )
    small = [_started(noun) + (" as a dry run" if row.dry_run else "")]
    if given:
        small.append(safe(given, 500))
    if row.cancelled_by:
        small.append(f"Cancelled by <@{row.cancelled_by}>")
    if row.outputs:
        small.append("Result: " + safe(", ".join(f"{name}={value}" for name, value in row.outputs.items()), 500))
    return small


def _started(noun: Shown) -> str:
    """Who started it; or why nobody had to, and how to keep it from doing so."""
    row = noun.run
    if row.trigger not in (Trigger.AUTO, Trigger.SCHEDULE):
        return f"Started by <@{row.requested_by}>"
    how = "by itself" if row.trigger == Trigger.AUTO else "by the clock"
    off = f"`/inc auto off {row.runbook}` keeps it from starting so" if row.state not in ENDED else ""
    return f"Started {how}: {safe(row.because, 300)}" + (f" · {off}" if off else "")


def _secret(noun: Shown, name: str) -> bool:
    param = noun.runbook.params.get(name)
    return param is None or param.type == "secret"


def _took(noun: Shown) -> str:
    row = noun.run
    if row.state not in ENDED or row.ended_at is None:
        return ""
    return duration_text(row.ended_at - (row.started_at if row.started_at is not None else row.requested_at))
