"""Wakes nobody: writes the page to the log, and says so."""

import structlog

from bot.incidents.pager import PageRequest, PageResult

log = structlog.get_logger()

NOBODY = "Nobody was paged: the pager is 'log', which only writes to the log. Set `pager` in tocsin.yaml to a real one."


async def page(request: PageRequest) -> PageResult:
    """Log *request*; the title stays out, since the incident may be private."""
    log.warning(
        "page.nobody",
        incident=request.reference,
        severity=request.severity,
        service=request.service,
        dedup_key=request.dedup_key,
    )
    return PageResult("nobody", NOBODY)
