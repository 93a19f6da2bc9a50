"""What happens by the clock in this process; what has an effect on incidents is handed to the engine."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from apscheduler.schedulers.asyncio import AsyncIOScheduler

Tick = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Job:
    """Something done again and again; a firing that comes late or piles up is done once."""

    name: str
    seconds: float
    jitter: float = 0


JOBS = (
    Job("people.refresh", 3600, jitter=300),
    Job("groups.refresh", 300, jitter=30),
    Job("channels.refresh", 10),
    Job("runbooks.reread", 30, jitter=5),
    Job("schedules.tick", 10),
    Job("alerts.sweep", 600, jitter=60),
    Job("history.prune", 1800, jitter=300),
    Job("approvals.expire", 10),
    Job("deliveries.tick", 10),
    Job("pages.watch", 5),
    Job("pager.probe", 300, jitter=30),
    Job("runbooks.rank", 300, jitter=30),
    Job("oncall.look", 60),
    Job("oncall.learn", 10),
    Job("budgets.look", 300, jitter=30),
    Job("postmortems.remind", 600, jitter=60),
)


def scheduler(ticks: Mapping[str, Tick], seconds: Mapping[str, float] | None = None) -> AsyncIOScheduler:
    """A clock with every job of `JOBS`, each doing what *ticks* has under its name; not started yet.

    *seconds* has other intervals for some of them.
    """
    made = AsyncIOScheduler(
        timezone="UTC", job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
    )
    for job in JOBS:
        every = (seconds or {}).get(job.name, job.seconds)
        jitter = min(job.jitter, every / 10) or None
        made.add_job(ticks[job.name], "interval", seconds=every, jitter=jitter, id=job.name)
    return made
