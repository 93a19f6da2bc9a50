"""`catalog.yaml`: what you run, who owns it, who is on call for it, and how well it should do."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictFloat, StrictInt, field_validator, model_validator

from bot.catalog.shape import Strict, Version
from bot.kit.clock import parse_duration
from bot.kit.text import clean

WINDOW = "$window"
SHORTEST, LONGEST = timedelta(hours=1), timedelta(days=366)
EMAIL = re.compile(r"[^@\s<>|]{1,200}@[^@\s<>|]{1,200}")
USER = re.compile(r"[UW][A-Z0-9]{1,20}")

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Item = Annotated[str, Field(pattern=r"^[^\s/][^\n/]{0,99}$")]


def _address(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s<>|]{1,1200}", value) or clean(value) != value:
        raise ValueError("must be an address that begins with https:// or http://")
    return value


Address = Annotated[str, BeforeValidator(_address)]


def _span(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    try:
        span = parse_duration(value if isinstance(value, str) else "")
    except (ValueError, OverflowError):
        raise ValueError("write a length of time, such as 30d or 12h") from None
    if not SHORTEST <= span <= LONGEST:
        raise ValueError("must be between 1h and 366d")
    return span


class AtPager(Strict):
    """What a pager calls a service or a team. *key* is a name under `pagerduty.services` of tocsin.yaml."""

    policy: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    schedule: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    key: str | None = None


class Slo(Strict):
    """What share of what it does should go well, and how Prometheus counts it."""

    objective: StrictFloat | StrictInt
    window: Annotated[timedelta, BeforeValidator(_span)] = timedelta(days=30)
    connection: str = "prometheus"
    errors: str | None = None
    good: str | None = None
    total: str | None = None

    @field_validator("objective")
    @classmethod
    def _share(cls, found: float) -> float:
        if not 0 < found < 100:
            raise ValueError("is a percentage between 0 and 100, such as 99.9")
        return found

    @field_validator("errors", "good", "total")
    @classmethod
    def _windowed(cls, found: str | None) -> str | None:
        if found is not None and WINDOW not in found:
            raise ValueError(f"must hold {WINDOW}, which is filled in: sum(rate(requests_total[{WINDOW}]))")
        return found

    @model_validator(mode="after")
    def _counted(self) -> "Slo":
        given = (self.errors is not None, self.good is not None, self.total is not None)
        if given not in ((True, False, False), (False, True, True)):
            raise ValueError("give errors (the share that fails), or good and total")
        return self


class Service(Strict):
    """A service people run: who owns it, what it needs, where people look."""

    owner: str | None = None
    description: str = ""
    tier: str | StrictInt | None = None
    channel: str | None = None
    runbooks: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    oncall: str | None = None
    pager: dict[Name, AtPager] = Field(default_factory=dict)
    dashboards: dict[Item, Address] = Field(default_factory=dict)
    links: dict[Item, Address] = Field(default_factory=dict)
    slo: Slo | None = None


class Team(Strict):
    """People who own services; runbooks name them as `@name`."""

    members: tuple[str, ...] = ()
    description: str = ""
    channel: str | None = None
    group: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    oncall: str | None = None
    pager: dict[Name, AtPager] = Field(default_factory=dict)


class OnCall(Strict):
    """Who is on call under a name: people written here, or a schedule or policy of the pager."""

    people: tuple[str, ...] = ()
    schedule: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    policy: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")

    @model_validator(mode="after")
    def _one(self) -> "OnCall":
        if sum((bool(self.people), self.schedule is not None, self.policy is not None)) > 1:
            raise ValueError("give a list of people, or a schedule, or a policy")
        return self


def _listed(value: Any) -> Any:
    return {"people": value} if isinstance(value, list | tuple) else value


class Asset(Strict):
    """A host, a database, a cluster: something that runbooks look after."""

    kind: str = Field(default="host", pattern=r"^[a-z0-9][a-z0-9 _-]{0,30}$")
    service: str | None = None
    owner: str | None = None
    description: str = ""


def _person(value: Any) -> Any:
    if not isinstance(value, str) or not (EMAIL.fullmatch(value) or USER.fullmatch(value)):
        raise ValueError("must be a user id of Slack, such as U012ABC, or an e-mail address")
    return value


def _filled(found: Any) -> Any:
    return {name: {} if entry is None else entry for name, entry in found.items()} if isinstance(found, dict) else found


class Catalog(Strict):
    """The whole file."""

    version: Version = 1
    services: dict[str, Service] = Field(default_factory=dict)
    teams: dict[Name, Team] = Field(default_factory=dict)
    oncall: dict[Name, Annotated[OnCall, BeforeValidator(_listed)]] = Field(default_factory=dict)
    assets: dict[Item, Asset] = Field(default_factory=dict)
    people: dict[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")], Annotated[str, BeforeValidator(_person)]] = Field(
        default_factory=dict
    )

    @field_validator("services", "teams", "oncall", "assets", "people", mode="before")
    @classmethod
    def _filled(cls, found: Any) -> Any:
        return {} if found is None else _filled(found)


# Where people are on call: a list of catalog.yaml by its name, a schedule or a policy by the pager's id.
Kind = Literal["list", "schedule", "policy"]


@dataclass(frozen=True, order=True)
class Place:
    """Where somebody is on call."""

    kind: Kind
    id: str

    @property
    def key(self) -> str:
        """What it is stored under."""
        return f"{self.kind}:{self.id}"


@dataclass(frozen=True)
class Directory:
    """What catalog.yaml says, as asked by everybody; *pager* is the one that tocsin.yaml names."""

    catalog: Catalog = field(default_factory=Catalog)
    pager: str = ""

    def places(self) -> list[Place]:
        """Every place there is, those with a name first."""
        found = dict.fromkeys(self.named(name) for name in self.catalog.oncall)
        for mapped in [at.pager for at in self.catalog.services.values()] + [
            at.pager for at in self.catalog.teams.values()
        ]:
            found |= dict.fromkeys(self._mapped(mapped))
        return list(found)

    def named(self, name: str) -> Place:
        """The place that `oncall` calls *name*."""
        given = self.catalog.oncall[name]
        if given.schedule is not None:
            return Place("schedule", given.schedule)
        return Place("list", name) if given.policy is None else Place("policy", given.policy)

    def name(self, place: Place) -> str | None:
        """What `oncall` calls *place*."""
        return next((name for name in self.catalog.oncall if self.named(name) == place), None)

    def of_service(self, name: str) -> list[Place]:
        """Who is on call for a service: as it says itself, else as its owner says."""
        service = self.catalog.services.get(name)
        if service is None:
            return []
        return self._own(service) or self.of_team(service.owner or "")

    def of_team(self, name: str) -> list[Place]:
        """Who is on call for what a team owns."""
        team = self.catalog.teams.get(name)
        return [] if team is None else self._own(team)

    def teams_at(self, place: Place) -> list[str]:
        """The teams whose on-call *place* is: by themselves, or by a service of theirs."""
        return [name for name in self.catalog.teams if place in self.of_team(name) or self._serves(name, place)]

    def services_at(self, place: Place) -> list[str]:
        """The services that *place* is on call for."""
        return [name for name in self.catalog.services if place in self.of_service(name)]

    def owners(self, service: str | None) -> tuple[str, ...]:
        """The members of the team that owns *service*."""
        found = self.catalog.services.get(service or "")
        team = self.catalog.teams.get((found.owner if found else None) or "")
        return team.members if team else ()

    def person(self, who: str) -> str:
        """*who* as the chat knows them: `people` says it where the e-mail address does not do."""
        return self._people.get(who.lower(), who)

    @property
    def _people(self) -> Mapping[str, str]:
        return {mail.lower(): known for mail, known in self.catalog.people.items()}

    def _serves(self, team: str, place: Place) -> bool:
        return any(service.owner == team and place in self._own(service) for service in self.catalog.services.values())

    def _own(self, at: Service | Team) -> list[Place]:
        if at.oncall is not None and at.oncall in self.catalog.oncall:
            return [self.named(at.oncall)]
        return list(self._mapped(at.pager))

    def _mapped(self, at: Mapping[str, AtPager]) -> Iterator[Place]:
        mapped = at.get(self.pager)
        if mapped is not None and mapped.policy is not None:
            yield Place("policy", mapped.policy)
        elif mapped is not None and mapped.schedule is not None:
            yield Place("schedule", mapped.schedule)
