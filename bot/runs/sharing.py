"""What steps made is shared in the incident's channel, under the message of the run; a run does not wait for that."""

from dataclasses import dataclass
from pathlib import PurePosixPath

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Engine
from bot.incidents import lifecycle, parts
from bot.incidents.chat import Chat, Upload
from bot.incidents.parts import FAILED, Parts
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.text import clean, clip, one_line
from bot.runs import run as runs
from bot.runs.model import Run, RunFile

log = structlog.get_logger()


@dataclass
class Sharing:
    """The workflow `share_file`."""

    engine: Engine
    react: React
    chat: Chat
    clock: Clock

    def __post_init__(self) -> None:
        self.parts = Parts(self.engine, self.react, self.clock)

    async def share(self, file_id: str) -> None:
        """Upload one file, once, and let go of its content."""
        async with self.engine.db.read() as session:
            file = await session.get(RunFile, file_id)
            if file is None or file.content is None:
                return
            run = await runs.find(session, file.run_id)
            incident = await lifecycle.find(session, run.incident_id)
            name = await upload_name(session, run, file)
        channel = incident.channel
        if channel is None:
            return  # `show_runs` comes back to it
        if not file.content:
            await self._refused(run, file, "it is empty")
            return
        thread = await self._thread(run)
        part = (await self.parts.begin(incident.id, [f"file:{file.id}"]))[f"file:{file.id}"]
        upload = Upload(name=name, content=file.content, title=clip(one_line(file.title), 150) or name, thread=thread)

        async def make() -> parts.Result:
            return {"file": await self.chat.upload(channel, upload)}

        async def find() -> parts.Result | None:
            found = await self.chat.find_upload(channel, name, since=file.made_at, thread=thread)
            return {"file": found} if found else None

        if await self.parts.make(part, make, find, quiet=True) is None:
            await self._refused(run, file, part.error or "the chat refused it")
            return
        async with self.engine.transaction() as tx:
            mine = sa.update(RunFile).where(col(RunFile.id) == file.id)
            await tx.session.execute(mine.values(shared_at=self.clock(), content=None))

    async def _thread(self, run: Run) -> str | None:
        """The run's message, which comes first; without one, the file goes into the channel."""
        part = await self.parts.find(run.incident_id, f"run:{run.id}")
        if part is not None and part.result.get("ts"):
            return str(part.result["ts"])
        if part is not None and part.state == FAILED:
            return None
        raise TemporaryError("the message of the run is not there yet", after=1.0)

    async def _refused(self, run: Run, file: RunFile, why: str) -> None:
        """The run goes on without; people are told, and what was made stays where it is."""
        text = f"Run {run.number}: {file.name} could not be shared: {why}"
        about = {"file": file.id, "name": file.name, "reason": why}
        async with self.engine.transaction() as tx:
            there = await runs.find(tx.session, run.id, lock=True)
            await runs.event(
                tx, self.react, there, "run.file_refused", text,
                now=self.clock(), actor="bot", data=about, once=file.id,
            )  # fmt: skip


async def upload_name(session: AsyncSession, run: Run, file: RunFile) -> str:
    """A name that no other file in the channel has: of the run's number, and counted where a run gave it twice."""
    made = sa.select(col(RunFile.id), col(RunFile.name)).where(col(RunFile.run_id) == run.id)
    taken: dict[str, str] = {}
    for file_id, given in (await session.execute(made.order_by(col(RunFile.made_at), col(RunFile.id)))).all():
        path = PurePosixPath(clean(one_line(given)).replace("\\", "/"))
        stem, suffix, again = clip(path.stem, 80) or "file", path.suffix[:20], 1
        while (name := f"run-{run.number}-{stem}{f'-{again}' if again > 1 else ''}{suffix}") in taken:
            again += 1
        taken[name] = file_id
        if file_id == file.id:
            return name
    raise PermanentError(f"there is no file {file.id} of run {run.id}")


async def waiting(session: AsyncSession, incident_id: str) -> list[tuple[str, str]]:
    """The files of an incident that were not shared yet, oldest first, each with its run."""
    query = sa.select(col(RunFile.id), col(RunFile.run_id)).join(Run, col(Run.id) == col(RunFile.run_id))
    query = query.where(col(Run.incident_id) == incident_id, col(RunFile.content).is_not(None))
    found = await session.execute(query.order_by(col(RunFile.made_at), col(RunFile.id)))
    return [(file_id, run_id) for file_id, run_id in found]
