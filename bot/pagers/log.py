"""Wakes nobody: writes the page to the log, and says so."""

import structlog

from bot.catalog.config import Config
from bot.incidents.pager import Pager, PageRequest, PageResult

log = structlog.get_logger()

NOBODY = "Nobody was paged: the pager is 'log', which only writes to the log. Set `pager` in tocsin.yaml to a real one."


class Log:
    """The pager of those who have none."""

    async def page(self, request: PageRequest) -> PageResult:
        """Log *request*; the title stays out, since the incident may be private."""
        log.warning(
            "page.nobody",
            incident=request.reference,
            severity=request.severity,
            service=request.service,
            dedup_key=request.dedup_key,
        )
        return PageResult("nobody", NOBODY)

    async def close(self) -> None:
        """Nothing is open."""


def make(config: Config) -> Pager:
    """It needs no settings."""
    return Log()
