"""What an installation wants of its post-mortems: which template, and due when."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

from bot.catalog.config import Postmortems

FULL = "full"
# What templates were called before.
_BEFORE = {"default": FULL}


@dataclass(frozen=True)
class Plan:
    """*folder* has the installation's own templates, in ``postmortems/``.

    Of a severity that has no *days* no post-mortem is expected.
    """

    usual: str = FULL
    templates: Mapping[str, str] = field(default_factory=dict)
    days: Mapping[str, int] = field(
        default_factory=lambda: {str(sev): days for sev, days in Postmortems().due_days.items()}
    )
    folder: Path | None = None

    @classmethod
    def of(cls, said: Postmortems, config: Path) -> "Plan":
        """As *said* in the folder *config*."""
        own = config / said.templates
        return cls(
            said.template,
            {str(sev): name for sev, name in said.template_by_severity.items()},
            {str(sev): days for sev, days in said.due_days.items()},
            own if (own / "postmortems").is_dir() else None,
        )

    def template(self, severity: str) -> str:
        """Which one a first draft is made of."""
        return self.templates.get(severity, self.usual)

    def kept(self, template: str) -> str:
        """What the template of an older revision is called now."""
        return _BEFORE.get(template, template)

    def due(self, severity: str, since: datetime) -> str | None:
        """The day by which it shall be done, counted from *since*."""
        days = self.days.get(severity)
        return None if days is None else working_day(since.date(), days).isoformat()


def working_day(since: date, days: int) -> date:
    """The day that is so many working days (Monday to Friday) after *since*."""
    day = since
    while days > 0:
        day += timedelta(days=1)
        days -= day.weekday() < 5
    return day


def working_days(since: date, until: date) -> int:
    """How many working days lie after *since*, up to *until*; 0 if that is earlier."""
    span = (until - since).days
    return sum((since + timedelta(days=n)).weekday() < 5 for n in range(1, span + 1)) if span > 0 else 0
