"""What of a run cannot wait until somebody looks into a channel: whoever owns its runbook is woken."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bot.catalog.services import Service
from bot.engine import Engine
from bot.incidents import lifecycle
from bot.incidents.model import Incident
from bot.kit.text import clip
from bot.runs import run as runs
from bot.runs.model import Run
from bot.runs.pages import IncidentPages
from bot.runs.runbook import Runbook

ROLLBACK, GLASS = "rollback_failed", "glass_broken"


@dataclass
class Alarm:
    """The workflow `alarm`. *pages* are those of an incident, *services* the catalog's."""

    engine: Engine
    pages: Callable[[Incident], IncidentPages]
    services: Callable[[], Mapping[str, Service]]

    async def ring(self, incident_id: str, run_id: str, why: str) -> None:
        """Wake the owner of a run's runbook, once for each run and reason."""
        async with self.engine.db.read() as session:
            run = await runs.find(session, run_id)
            incident = await lifecycle.find(session, incident_id)
        runbook = runs.definition(run)
        service = owned(incident, runbook, self.services())
        await self.pages(incident).wake(told(run, runbook, why), key=f"run:{run.id}:{why}", service=service)


def told(run: Run, runbook: Runbook, why: str) -> str:
    """The reason, for whoever is woken."""
    name = clip(runbook.name, 100)
    if why == GLASS:
        return f"Run {run.number} of {name} goes without approvals: the glass was broken"
    return f"Run {run.number} of {name} could not take back what it had changed"


def owned(incident: Incident, runbook: Runbook, services: Mapping[str, Service]) -> str | None:
    """The service whose on-call answers for *runbook*: the incident's, unless others own it and the owner has one."""
    own = sorted(name for name, service in services.items() if service.owner == runbook.owner)
    return incident.service if incident.service in own or not own else own[0]
