"""A run told to an operator: as plain data for programs, or as lines for people."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from bot.kit.text import clip
from bot.runs.model import Approval, Run, RunStep, StepState, Vote

SIGNS = {
    StepState.RUNNING: "⟳",
    StepState.SUCCEEDED: "✓",
    StepState.FAILED: "✗",
    StepState.FAILED_IGNORED: "✗",
    StepState.SKIPPED: "-",
    StepState.CANCELLED: "✗",
    StepState.UNKNOWN: "?",
    StepState.PREVIEWED: "…",
}
SHOWN = 4000


def about(
    run: Run,
    reference: str | None,
    rows: Sequence[RunStep],
    approvals: Sequence[Approval] = (),
    votes: Sequence[Vote] = (),
) -> dict[str, Any]:
    """Everything that is kept of a run, as JSON."""
    return {
        **brief(run, reference),
        "params": run.params,
        "sha256": run.sha256,
        "commit": run.git_commit,
        "key": run.concurrency_key,
        "phase": run.phase,
        "failure": run.failure,
        "outputs": run.outputs,
        "steps": [step(row) for row in rows],
        "approvals": [_approval(one, [vote for vote in votes if vote.approval_id == one.id]) for one in approvals],
    }


def brief(run: Run, reference: str | None) -> dict[str, Any]:
    """A run in a list of runs."""
    return {
        "incident": reference,
        "run": run.number,
        "id": run.id,
        "runbook": run.runbook,
        "state": run.state,
        "dry_run": run.dry_run,
        "trigger": run.trigger,
        "requested_by": run.requested_by,
        "requested_at": _at(run.requested_at),
        "started_at": _at(run.started_at),
        "ended_at": _at(run.ended_at),
    }


def head(told: Mapping[str, Any]) -> str:
    """A run in one line."""
    dry = " (dry run)" if told["dry_run"] else ""
    times = "".join(f", {word} {told[key]}" for word, key in (("asked for", "requested_at"), ("ended", "ended_at"))
                    if told[key])  # fmt: skip
    return f"{told['incident']} run {told['run']}: {told['runbook']}{dry} is {told['state']}{times}"


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """What `about` says, for people."""
    yield head(told)
    yield f"started by {told['requested_by']} ({told['trigger']})"
    if told["params"]:
        yield "with " + ", ".join(f"{name}={value}" for name, value in told["params"].items())
    yield ""
    for step in told["steps"]:
        yield step_line(step)
    for one in told["approvals"]:
        yield ""
        yield f"asked {' or '.join(one['who']) or 'nobody'}: {one['prompt']}"
        yield f"  {one['state']}{': ' + one['told'] if one['told'] else ''}"
        for vote in one["votes"]:
            yield f"  {'yes' if vote['yes'] else 'no'} by {vote['by']}{': ' + vote['reason'] if vote['reason'] else ''}"
    if told["failure"] and told["failure"].get("message"):
        yield ""
        yield f"failed at “{told['failure']['step']}”: {told['failure']['message']}"
    if told["outputs"]:
        yield ""
        yield from (f"{name}: {value}" for name, value in told["outputs"].items())


def step_line(step: Mapping[str, Any]) -> str:
    """One attempt at a step."""
    depth = "  " * (step["path"].count("/") + step["path"].endswith("]"))
    phase = "" if step["phase"] == "steps" else f"{step['phase']}: "
    again = f" (attempt {step['attempt']})" if step["attempt"] > 1 else ""
    sign = SIGNS.get(StepState(step["state"]), "?")
    return f"{depth}{sign} {phase}{step['name']}{again}{': ' + step['summary'] if step['summary'] else ''}"


def step(row: RunStep) -> dict[str, Any]:
    """An attempt at a step."""
    result = {key: row.result[key] for key in ("values", "outputs") if row.result.get(key)}
    return {
        "path": row.path,
        "phase": row.phase,
        "step": row.step,
        "name": row.name,
        "type": row.type,
        "effect": row.effect,
        "attempt": row.attempt,
        "state": row.state,
        "summary": row.summary,
        "output": clip(row.output, SHOWN),
        "started_at": _at(row.started_at),
        "ended_at": _at(row.ended_at),
        **result,
    }


def _approval(one: Approval, votes: Sequence[Vote]) -> dict[str, Any]:
    return {
        "prompt": one.prompt,
        "who": one.who,
        "count": one.count,
        "state": one.state,
        "told": one.told,
        "plan": one.plan,
        "asked_at": _at(one.asked_at),
        "expires_at": _at(one.expires_at),
        "ended_at": _at(one.ended_at),
        "votes": [
            {"by": vote.person, "yes": vote.yes, "reason": vote.reason, "inputs": vote.inputs, "at": _at(vote.at)}
            for vote in votes
        ],
    }


def _at(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="seconds")
