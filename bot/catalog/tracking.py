"""`trackers.yaml`: the issue trackers, which incidents get a ticket in them, and who has the last word on each field.

A tracker's secret is looked up when it is needed, so one that was changed is used at once.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, StrictBool, field_validator

from bot.catalog.config import TRACKERS, ConfigError, Strict, Version, checked, document, shaped
from bot.catalog.targets import Credentials, Reach, Secret
from bot.kit.clock import parse_duration
from bot.kit.text import nearest
from bot.kit.yaml import Document

Phase = Literal["triage", "investigating", "identified", "fixing", "monitoring", "resolved", "canceled"]
Owner = Literal["tocsin", "tracker", "both"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
_HERE = r"http://(127\.0\.0\.1|localhost)"
URL = rf"^(https://[A-Za-z0-9.-]+|{_HERE})(:[0-9]{{1,5}})?(/[A-Za-z0-9._~-]+)*$"

# Who has the last word on what. `truth` in trackers.yaml changes the first four; docs/trackers.md shows the table.
FIELDS: Mapping[str, str] = {
    "status": "tocsin",
    "resolution": "both",
    "followups": "both",
    "severity": "tocsin",
    "title": "tocsin",
    "description": "tracker",
    "assignee": "tracker",
    "comments": "tracker",
    "approval of a change": "tracker",
}


def _within(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        found = parse_duration(str(value))
    except (ValueError, OverflowError):
        raise ValueError("write how long, such as 30m or 4h") from None
    if not timedelta(minutes=1) <= found <= timedelta(days=14):
        raise ValueError("wait for at least 1m and at most 14d")
    return found


class Truth(Strict):
    """Whose word counts where both sides have changed something."""

    status: Owner = Field(default="tocsin", description="the status while the incident is open")
    resolution: Owner = Field(default="both", description="whether the incident is over; `both`: whoever says so last")
    followups: Owner = Field(default="both", description="whether a follow-up is done; `both`: whoever says so last")
    severity: Literal["tocsin", "tracker"] = Field(
        default="tocsin", description="the priority; with `tracker` it is set once, when the ticket is opened"
    )


class StatusMap(Strict):
    """Our words for how an incident stands, and the tracker's."""

    out: dict[Phase, str] = Field(default_factory=dict, description="our word → the tracker's status")
    back: dict[str, Phase] = Field(default_factory=dict, description="the tracker's status → our word")


class Entry(Strict):
    """A tracker, and what opens it."""

    kind: str = Field(description="jira, servicenow, github or gitlab")
    url: str = Field(pattern=URL, description="its address, without a / at the end")
    username: str | None = Field(
        default=None, description="whose token or password it is, where the tracker wants that"
    )
    token: Secret = Field(description="the token, or the password of `username`")
    webhook: tuple[Secret, ...] = Field(
        default=(), max_length=2, description="the secret its webhooks are signed with; two while it is changed"
    )
    ca: Path | None = Field(default=None, description="certificate authorities to trust in place of the system's")
    status: StatusMap = Field(default=StatusMap(), description="which status means what")
    truth: Truth = Field(default=Truth(), description="who has the last word on what")
    options: dict[str, Any] = Field(default_factory=dict, description="what this kind of tracker needs, see below")

    @field_validator("webhook", mode="before")
    @classmethod
    def _listed(cls, found: Any) -> Any:
        return (found,) if isinstance(found, dict) else found


class Rule(Strict):
    """Incidents that get a ticket as soon as they are opened; what is not named matches everything."""

    tracker: str = Field(description="where")
    severity: tuple[str, ...] = Field(default=(), description="`[SEV1, SEV2]`")
    service: tuple[str, ...] = Field(default=(), description="services of the incident")
    kind: tuple[str, ...] = Field(default=("standard",), description="`standard`, `drill` and so on")
    private: StrictBool = Field(
        default=False, description="private ones too; their ticket says nothing but the reference"
    )

    @field_validator("severity")
    @classmethod
    def _severities(cls, found: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [word for word in found if word not in ("SEV1", "SEV2", "SEV3", "SEV4", "SEV5")]:
            raise ValueError(f"{wrong[0]!r} is no severity; there is SEV1 to SEV5")
        return found


class Followups(Strict):
    """Where follow-ups go."""

    tracker: str = Field(description="where")
    at: Literal["postmortem", "asked"] = Field(
        default="postmortem", description="with the first draft of the post-mortem, or only when somebody asks"
    )


class FindingRule(Strict):
    """What runbooks find (`raises`) that gets a ticket; what is not named matches everything."""

    tracker: str = Field(description="where")
    runbook: tuple[str, ...] = Field(default=(), description="ids of runbooks")
    rule: tuple[str, ...] = Field(default=(), description="ids of their rules")
    severity: tuple[Literal["critical", "high", "medium", "low", "info"], ...] = Field(
        default=(), description="severities of the findings"
    )


class ChangeRule(Strict):
    """Runs that write and need a change request first; what is not named matches everything."""

    tracker: str = Field(description="where; it must have change requests, as ServiceNow has")
    runbook: tuple[str, ...] = Field(default=(), description="ids of runbooks")
    risk: tuple[Literal["low", "medium", "high"], ...] = Field(default=(), description="risks of runbooks")
    service: tuple[str, ...] = Field(default=(), description="services of the incident")
    type: Literal["normal", "standard", "emergency"] = Field(default="normal", description="of the change")
    wait: StrictBool = Field(default=True, description="whether nothing is written before it is approved")
    within: Annotated[timedelta, BeforeValidator(_within)] = Field(
        default=timedelta(hours=4), description="how long its approval is waited for; then the run ends"
    )


class File(Strict):
    """The whole file."""

    version: Version = 1
    prefix: str = Field(default="tocsin", pattern=r"^[a-z0-9][a-z0-9-]{0,19}$")
    trackers: dict[Name, Entry] = Field(default_factory=dict)
    tickets: tuple[Rule, ...] = ()
    followups: Followups | None = None
    findings: tuple[FindingRule, ...] = ()
    changes: tuple[ChangeRule, ...] = ()

    @field_validator("trackers", mode="before")
    @classmethod
    def _filled(cls, found: Any) -> Any:
        return found or {}


@dataclass(frozen=True)
class Access:
    """One tracker as its plugin gets it: *options* are of the shape that the plugin asks for."""

    name: str
    entry: Entry
    options: Any
    reach: Reach

    @property
    def url(self) -> str:
        """Where it is."""
        return self.entry.url

    @property
    def hint(self) -> str:
        """What to look at when it does not let us in."""
        return f"check the token of {self.name} in {TRACKERS}, and what it may do"

    async def secret(self) -> str:
        """The token. PermanentError, without a word of its content, if there is none."""
        return await self.reach.reveal(self.entry.token, f"token of {self.name}")

    async def signs(self) -> list[str]:
        """What its webhooks may be signed with."""
        return [await self.reach.reveal(where, f"webhook secret of {self.name}") for where in self.entry.webhook]

    async def open(self) -> Credentials:
        """The usual header: Basic where there is a username, else Bearer."""
        secret = await self.secret()
        if self.entry.username is None:
            return Credentials({"Authorization": f"Bearer {secret}"}, (secret,))
        pair = base64.standard_b64encode(f"{self.entry.username}:{secret}".encode()).decode()
        return Credentials({"Authorization": f"Basic {pair}"}, (secret, pair))

    @property
    def ca(self) -> Path | None:
        """The authorities to trust."""
        return None if self.entry.ca is None else self.reach.path(self.entry.ca)


@dataclass(frozen=True)
class Tracking:
    """The whole file, made sense of; empty where there is none."""

    file: File = field(default_factory=File)
    accesses: Mapping[str, Access] = field(default_factory=dict)

    def oddities(self) -> list[str]:
        """What will keep a tracker from working: secrets that are not there. Nothing is opened."""
        found = []
        for name, access in self.accesses.items():
            secrets = (access.entry.token, *access.entry.webhook)
            told = [access.reach.absent(where) for where in secrets]
            if access.entry.ca is not None and not (access.ca or Path()).is_file():
                told.append(f"there is no file {access.ca} (ca)")
            if not access.entry.webhook and access.entry.truth != Truth(resolution="tocsin", followups="tocsin"):
                told.append("it has no webhook, so what people do there is not heard of")
            found += [f"{TRACKERS}: tracker {name!r}: {one}" for one in told if one]
        return found


def load(folder: Path, environment: Mapping[str, str], kinds: Mapping[str, type[BaseModel]]) -> Tracking:
    """What *folder*'s trackers.yaml says; *kinds* has the options of each kind. ConfigError with all problems."""
    found = document(folder / TRACKERS)
    if found is None:
        return Tracking()
    file, problems = checked(found, File), list[str]()
    reach, accesses = Reach(folder=folder, environment=environment), dict[str, Access]()
    for name, entry in file.trackers.items():
        if entry.kind not in kinds:
            told = f"there is no tracker of kind {entry.kind!r}; there is: {', '.join(sorted(kinds))}"
            problems.append(str(found.error(("trackers", name, "kind"), told)))
            continue
        try:
            options = shaped(_part(found, ("trackers", name, "options")), kinds[entry.kind])
        except ConfigError as error:
            problems += error.problems
            continue
        accesses[name] = Access(name, entry, options, reach)
    problems += _dangling(found, file)
    if problems:
        raise ConfigError(problems)
    return Tracking(file, accesses)


def _part(found: Document, place: tuple[str | int, ...]) -> Document:
    """A part of a file as a document of its own, which knows its lines."""
    data = found.data
    for step in place:
        data = data.get(step) or {}
    lines = {path[len(place) :]: line for path, line in found.lines.items() if path[: len(place)] == place}
    return Document(found.name, data, {(): found.line(place), **lines})


def _dangling(found: Document, file: File) -> list[str]:
    """Names of trackers that are not there, and rules that can never be met."""
    named: Sequence[tuple[tuple[str | int, ...], str]] = [
        *((("tickets", i, "tracker"), rule.tracker) for i, rule in enumerate(file.tickets)),
        *((("findings", i, "tracker"), rule.tracker) for i, rule in enumerate(file.findings)),
        *((("changes", i, "tracker"), rule.tracker) for i, rule in enumerate(file.changes)),
        *([(("followups", "tracker"), file.followups.tracker)] if file.followups else []),
    ]
    problems = []
    for place, name in named:
        if name not in file.trackers:
            near = nearest(name, list(file.trackers))
            hint = f"did you mean {near}?" if near else f"there is: {', '.join(file.trackers) or 'none'}"
            problems.append(str(found.error(place, f"there is no tracker {name!r}; {hint}")))
    return problems
