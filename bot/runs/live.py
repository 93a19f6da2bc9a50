"""Choices that are looked up each time a form is opened, by a step that only reads."""

import asyncio
import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from bot.incidents.model import Incident
from bot.kit.errors import BotError, PermanentError
from bot.kit.text import clip, one_line
from bot.runs import params
from bot.runs.expressions import evaluate
from bot.runs.interpreter import Interpreter
from bot.runs.params import ParamErrors
from bot.runs.runbook import LiveChoices, Runbook

log = structlog.get_logger()

# Nobody waits longer for a form; and Slack gives three seconds in all when somebody types into a menu.
SECONDS, TYPING = 2.5, 2.0
# What was found is good for a moment: a menu asks again with each letter.
FRESH = 20.0
# As many as can be remembered with the form until it is sent.
MOST = 500
MARK = 4


@dataclass(frozen=True)
class Choices:
    """What a look found, or why it found nothing. *left_out* is how many more there were."""

    found: tuple[str, ...] = ()
    trouble: str = ""
    left_out: int = 0


@dataclass
class Live:
    """Looks choices up. What fails says so in a word for people: a form opens in any case."""

    interpreter: Interpreter
    seconds: float = SECONDS
    fresh: float = FRESH
    _known: dict[tuple[str, str], tuple[float, Choices]] = field(default_factory=dict)

    async def choices(self, runbook: Runbook, incident: Incident) -> dict[str, Choices]:
        """The choices of every parameter that has live ones, all looked up side by side."""
        names = [name for name, param in runbook.params.items() if param.choices_from is not None]
        most = MOST // max(1, len(names))
        found = await asyncio.gather(*(self.look(runbook, incident, name) for name in names))
        return {name: _at_most(each, most) for name, each in zip(names, found, strict=True)}

    async def look(self, runbook: Runbook, incident: Incident, name: str, *, most: float | None = None) -> Choices:
        """The choices of one parameter, all of them, within *most* seconds."""
        seconds = self.seconds if most is None else min(most, self.seconds)
        key, now = (runbook.sha256, name), time.monotonic()
        if key in self._known and now - self._known[key][0] < self.fresh:
            return self._known[key][1]
        live = runbook.params[name].choices_from
        if live is None:
            return Choices(trouble="it has none that are looked up")
        try:
            async with asyncio.timeout(seconds):
                choices = Choices(await self._found(runbook, incident, name, live, seconds))
        except TimeoutError:
            return Choices(trouble=f"looking took longer than {seconds:g} s")
        except BotError as error:
            log.info("form.no_choices", runbook=runbook.id, param=name, reason=str(error))
            return Choices(trouble=clip(one_line(str(error)), 200))
        self._known = {k: known for k, known in self._known.items() if now - known[0] < self.fresh}
        self._known[key] = (now, choices)
        return choices

    async def _found(
        self, runbook: Runbook, incident: Incident, name: str, live: LiveChoices, seconds: float
    ) -> tuple[str, ...]:
        outcome, known = await self.interpreter.look(runbook, incident, live.step, seconds=seconds * 0.9)
        if not outcome.ok:
            raise PermanentError(outcome.summary or "the look failed")
        value = evaluate(live.value, {**known, **outcome.values, **outcome.outputs})
        if not isinstance(value, list):
            raise PermanentError("the look gave no list")
        fitting: dict[str, None] = {}
        for one in value:
            try:
                fitting[str(params.value(runbook.params[name], one))] = None
            except ValueError:
                continue  # what the parameter would not take is no choice
        if not fitting:
            why = "what was found does not fit" if value else "nothing was found"
            raise PermanentError(why)
        return tuple(fitting)


def _at_most(choices: Choices, most: int) -> Choices:
    left = len(choices.found) - most
    return choices if left <= 0 else Choices(choices.found[:most], left_out=left)


def mark(choices: Sequence[str]) -> str:
    """Stands for *choices* where there is no room for them."""
    return "".join(map(_digest, choices))


def offered(marked: str, choices: Sequence[str]) -> list[str]:
    """Those of *choices* that were there when the form was opened."""
    known = _known(marked)
    return [choice for choice in choices if _digest(choice) in known]


def check(marks: Mapping[str, Any], checked: Mapping[str, Any]) -> None:
    """Whether what was chosen is among what was offered; ParamErrors otherwise."""
    wrong = {
        name: "was not among the choices when the form was opened; open it again"
        for name, known in marks.items()
        if checked.get(name) is not None and _digest(str(checked[name])) not in _known(str(known))
    }
    if wrong:
        raise ParamErrors(wrong)


def _known(marked: str) -> set[str]:
    return {marked[start : start + MARK] for start in range(0, len(marked), MARK)}


def _digest(value: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(value.encode()).digest()[:3]).decode()
