"""Who may start a runbook, and who may say yes to it."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass

from bot.engine import Engine
from bot.incidents import access, roles
from bot.incidents.access import Person
from bot.incidents.model import Incident, Role, RoleName
from bot.runs.model import Run, Trigger
from bot.runs.runbook import COMMANDER as COMMANDER
from bot.runs.runbook import RESPONDERS as RESPONDERS
from bot.runs.runbook import Runbook


def refusal(
    allowed: Iterable[str],
    what: str,
    incident: Incident,
    person: str,
    held: Iterable[Role],
    groups: Collection[str] = (),
) -> str | None:
    """Why *person* may not do *what* ("Restart checkout may be run"); None if they may. Denied unless a rule lets them.

    *allowed* are user ids and `@names`; *groups* are the `@names` that *person* is known to belong to.
    """
    rules = set(allowed)
    if person in rules or rules & set(groups):
        return None
    own = [role for role in held if role.person == person]
    if COMMANDER in rules and any(role.name == RoleName.COMMANDER for role in own):
        return None
    responder = person == incident.declared_by or bool(own)
    if RESPONDERS in rules and responder:
        return None
    named = [f"<@{one}>" if one[:1] in "UW" else one for one in sorted(rules - {RESPONDERS})]
    who = [*(["responders of this incident"] if RESPONDERS in rules else []), *named]
    hint = " Press *Take command* or say `/inc join` first." if RESPONDERS in rules else ""
    return f"{what} by {' or '.join(who) or 'nobody'} only.{hint}"


def named(runbook: Runbook) -> list[str]:
    """Everybody that *runbook* lets run it or answer its questions, by id and `@name`."""
    asked = [step.action.get("who") or () for step in runbook.steps if step.type == "approval"]
    return [*runbook.access.run, *(runbook.access.approve or ()), *(str(one) for who in asked for one in who)]


@dataclass
class May:
    """Whether whoever asked for a run still may, asked again before each write."""

    engine: Engine
    find: Callable[[str], Awaitable[Person | None]]
    groups: Callable[[Person], frozenset[str]]

    async def refusal(self, run: Run, incident: Incident) -> str | None:
        """Why the run does not go on; None if it does. What the bot started by itself is nobody's to lose."""
        if run.trigger != Trigger.PERSON:
            return None
        person = await self.find(run.requested_by)
        if person is None:
            return f"<@{run.requested_by}>, who asked for the run, is not known here any more"
        if why := access.refusal(person):
            return why
        async with self.engine.db.read() as session:
            held = await roles.held(session, incident.id)
        allowed = run.definition.get("access", {}).get("run", [RESPONDERS])
        groups = self.groups(person)
        return refusal(allowed, "This runbook may be run", incident, person.id, held, groups)
