"""Logs: JSON for machines, lines for people at a terminal; always to stderr, never with a token in them."""

import logging
import re
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

_TOKENS = re.compile(r"\b(xox[a-z]|xapp)-[A-Za-z0-9-]{6,}|(?<=://)([^\s/:@]{1,100}):[^\s/@]{1,200}(?=@)")
# Postgres quotes the row that it refuses.
_ROW = re.compile(r"DETAIL:[\s\S]*?(?=\n\[SQL|\n\nThe above|\n\nDuring|\nTraceback|\Z)")


def masked(text: str) -> str:
    """*text* without Slack tokens, without passwords in addresses, and without the rows a database would not take."""
    text = _ROW.sub("DETAIL: ***", text)
    return _TOKENS.sub(lambda found: f"{found[1]}-***" if found[1] else f"{found[2]}:***", text)


def _mask(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = masked(value)
    return event


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to whatever stderr is at the moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """Looked up anew for each line."""
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        raise AttributeError("stderr is not ours to replace")


def configure(*, json: bool | None = None, level: int = logging.INFO) -> None:
    """Set logging up for this process; *json* None means: lines at a terminal, JSON elsewhere."""
    as_json = not sys.stderr.isatty() if json is None else json
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Processor] = [structlog.processors.format_exc_info, _mask, structlog.processors.JSONRenderer()]
    if not as_json:
        last = [structlog.processors.format_exc_info, _mask, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These speak of every request and every tick.
    for noisy in ("slack_sdk", "slack_bolt", "apscheduler", "aiohttp.access", "alembic", "bolt", "dbos", "httpx2"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
