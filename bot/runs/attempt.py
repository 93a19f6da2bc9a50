"""One attempt at one step: its values filled in, the plugin called, and whatever it does brought into one shape."""

import asyncio
import json
import math
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, JsonValue

from bot.catalog.targets import Reach
from bot.kit.clock import Clock
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.shelf import Shelf
from bot.kit.text import clip, one_line
from bot.runs.expressions import ExpressionError, evaluate
from bot.runs.going import Going, Scope, Stop, Waits
from bot.runs.journal import OUTPUT, SUMMARY, Lost, Outcome
from bot.runs.model import RunStep
from bot.runs.redact import Redactor
from bot.runs.runbook import Step
from bot.runs.step import Answer, Cancelled, File, Pages, Question, Room, StepContext, StepResult, effect, prepare

log = structlog.get_logger()

LONGEST_STEP = timedelta(minutes=5)
# Steps end by themselves at their timeout; this is for one that does not.
GRACE = 15.0
VALUES = 4 * 1024**2
FILE_LIMIT = 8 * 1024**2
# They only read, and yet a dry run does without: one takes time, one writes on the timeline, one asks people.
PREVIEWED = ("wait", "note", "approval")
# They last as long as the people or the steps that they wait for.
PATIENT = ("wait", "approval", "runbook")
NEEDS = "cannot be previewed: it needs what a skipped step would give"

Ask = Callable[[Question], Awaitable[Answer]]
Call = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, JsonValue]]]


@dataclass(frozen=True)
class Ports:
    """What a step can ask of the run that it is a step of."""

    ask: Ask
    call: Call


@dataclass
class Attempts:
    """Makes attempts. It knows nothing of runs' rows: it is given where it is, and says how it went."""

    steps: Shelf
    clock: Clock
    reach: Reach = field(default_factory=Reach)
    allow_private: tuple[str, ...] = ()
    folder: Path | None = None
    grace: float = GRACE

    async def make(
        self,
        going: Going,
        scope: Scope,
        step: Step,
        row: RunStep,
        ports: Ports,
        *,
        room: Room | None,
        say: Callable[[str], None],
        pages: Pages | None = None,
        again: bool = False,
    ) -> Outcome:
        """One attempt; whatever a plugin does comes out as an outcome with a word."""
        known = replace(self.context(going, scope, step, row), room=room, pager=pages, again=again)
        context = self._whole(known, going, scope, step, ports, say)
        try:
            return await self.outcome(going, scope, step, row.effect, context)
        except TimeoutError:
            return no(going, f"took longer than {context.timeout:.0f} s")
        except Cancelled as error:
            return replace(no(going, str(error)), cancelled=True)
        except TemporaryError as error:
            # The default of TemporaryError says nothing about how long the other side wants us to wait.
            after = 0.0 if error.after == TemporaryError("").after else error.after
            return replace(no(going, str(error)), passing=True, after=after)
        except PermanentError as error:
            if going.guessing and isinstance(error, ExpressionError):
                return Outcome(ok=True, summary=NEEDS, previewed=True)
            return no(going, str(error))
        except (Stop, Waits, Lost):
            raise
        except Exception as error:  # noqa: BLE001 - a plugin's fault ends its run with a word, not after hours of tries
            told = going.redact.text(f"{type(error).__name__}: {error}")[:2000]
            log.error("step.broken", step=step.key, type=step.type, error=told, where=_where(error))
            return no(going, f"the step type {step.type} broke ({type(error).__name__}); see the log")

    def effect(self, going: Going, scope: Scope, step: Step) -> str:
        """What the step does to the world, with its values filled in as far as they are known."""
        if step.effect is not None:
            return step.effect
        module = self.steps[step.type]
        try:
            return effect(module, self.filled(step, self.context(going, scope, step)))
        except PermanentError:
            return effect(module)  # the attempt will say what is wrong

    def looks_first(self, going: Going, scope: Scope, step: Step) -> bool:
        """Whether an attempt that was interrupted may be made again: it looks whether it was done before."""
        told = getattr(self.steps[step.type], "looks_first", None)
        try:
            return told is not None and bool(told(self.filled(step, self.context(going, scope, step))))
        except PermanentError:
            return False

    def filled(self, step: Step, context: StepContext) -> BaseModel:
        """What the step is given: its parameters with their values filled in, and checked."""
        return prepare(self.steps[step.type], step.action, context)

    def context(self, going: Going, scope: Scope, step: Step, row: RunStep | None = None) -> StepContext:
        """What a step may know; not yet what it can do."""
        left = max(0.0, (going.ends_at - self.clock()).total_seconds())
        most = step.timeout or (None if step.type in PATIENT else LONGEST_STEP)
        return StepContext(
            run_id=going.run.id,
            step_key=row.path if row else step.key,
            attempt=row.attempt if row else 1,
            timeout=left if most is None else min(most.total_seconds(), left),
            values=scope.values,
            env=scope.values["env"],
            secrets=scope.secrets,
            hidden=scope.hidden,
            redact=going.redact,
            cancelled=going.stopping,
            clock=self.clock,
            started_at=row.started_at if row else None,
            allow_private=self.allow_private,
            reach=self.reach,
            folder=self.folder,
            scratch=going.scratch,
            dry_run=going.run.dry_run,
        )

    def _whole(
        self,
        context: StepContext,
        going: Going,
        scope: Scope,
        step: Step,
        ports: Ports,
        say: Callable[[str], None],
    ) -> StepContext:
        async def check() -> Mapping[str, JsonValue]:
            if step.check is None:
                raise PermanentError("there is no check below this step")
            return await self.look(going, scope, step.check, replace(context, check=check))

        return replace(context, say=say, ask=ports.ask, call=ports.call, check=check)

    async def look(self, going: Going, scope: Scope, step: Step, context: StepContext) -> Mapping[str, JsonValue]:
        """What the step below another one gives, carried out once; it only reads."""
        module = self.steps[step.type]
        most = (step.timeout or LONGEST_STEP).total_seconds()
        context = replace(context, timeout=min(most, context.timeout))
        async with asyncio.timeout(context.timeout + self.grace):
            result = await module.run(context, self.filled(step, context))
        values = storable({"ok": result.ok, **going.redact.value(dict(result.values))})
        outputs = {key: evaluate(told, {**scope.values, **values}) for key, told in step.outputs.items()}
        return {**values, **storable(going.redact.value(outputs))}

    async def outcome(self, going: Going, scope: Scope, step: Step, kind: str, context: StepContext) -> Outcome:
        """The plugin called, or in a dry run asked what it would do."""
        module = self.steps[step.type]
        try:
            params = self.filled(step, context)
        except PermanentError:
            if going.guessing:
                return Outcome(ok=True, summary=NEEDS, previewed=True)
            raise
        look = None if step.dry_run == "skip" else getattr(module, "dry_run", None)
        preview = previews(going, step, kind)
        if preview and look is None:
            return Outcome(ok=True, summary=line(going, module.preview(params)), previewed=True)
        async with asyncio.timeout(context.timeout + self.grace):
            result = await (look if preview and look is not None else module.run)(context, params)
        if not isinstance(result, StepResult):
            raise TypeError("a step gives a StepResult back")
        outcome = await self._settled(going, step, result)
        if preview:
            return replace(outcome, previewed=outcome.ok)
        return self._with_outputs(going, scope, step, outcome) if outcome.ok else outcome

    async def _settled(self, going: Going, step: Step, result: StepResult) -> Outcome:
        """A result as it is stored: redacted and bounded."""
        plain = storable(dict(result.values))
        # A megabyte takes a second; the rest of the bot goes on meanwhile.
        output = await asyncio.to_thread(_both_ends, going.redact, result.output, OUTPUT)
        files = tuple(file for file in result.files if len(file.content) <= FILE_LIMIT)
        if step.attach and result.output.strip():
            whole = (
                output if len(result.output) <= OUTPUT else await asyncio.to_thread(going.redact.text, result.output)
            )
            files = (*files, File(f"{step.key}.txt", whole.encode(), title=step.heading))
        return Outcome(
            ok=result.ok,
            summary=line(going, result.summary),
            output=output,
            values=await asyncio.to_thread(going.redact.value, plain),
            passing=step.retry is not None,
            files=files,
        )

    def _with_outputs(self, going: Going, scope: Scope, step: Step, outcome: Outcome) -> Outcome:
        outputs = {}
        for key, expression in step.outputs.items():
            try:
                found = evaluate(expression, {**scope.values, **outcome.values})
            except PermanentError as error:
                return replace(outcome, ok=False, passing=False, summary=line(going, f"outputs: {key}: {error}"))
            outputs[key] = storable(going.redact.value(found))
        return replace(outcome, outputs=outputs)


def previews(going: Going, step: Step, kind: str) -> bool:
    """Whether a dry run does without this step."""
    if not going.run.dry_run or step.type == "runbook":
        return False
    return step.dry_run == "skip" or ((kind != "read" or step.type in PREVIEWED) and step.dry_run != "run")


def no(going: Going, why: str) -> Outcome:
    """It did not go well."""
    return Outcome(ok=False, summary=line(going, why))


def line(going: Going, text: str) -> str:
    """*text* as one line without secrets."""
    return clip(one_line(going.redact.text(text)), SUMMARY)


def _where(error: Exception) -> list[str]:
    """The way to a fault, without any of the values, which may be secret."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)[-5:]]


def _both_ends(redact: Redactor, text: str, limit: int) -> str:
    """*text* without secrets, or its first quarter and its end where it is longer than *limit*."""
    if len(text) <= limit:
        return redact.text(text)
    head, tail = limit // 4, limit - limit // 4
    first = redact.split(text[: head + redact.margin], head)[0]
    last = redact.split(text[-tail - redact.margin :], -tail)[1]
    return f"{first}\n… {len(text) - limit} characters left out …\n{last}"


def storable(value: Any) -> Any:
    """*value* as both databases keep it; ValueError or TypeError if it is no JSON or too much of it."""
    plain = _finite(value)
    if len(json.dumps(plain, ensure_ascii=False, allow_nan=False)) > VALUES:
        raise ValueError("more than can be kept")
    return plain


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
