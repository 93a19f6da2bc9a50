"""What an operator writes in the configuration folder: general choices, connections, services."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    StrictBool,
    StrictInt,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails

from bot.catalog import pagers as pagers_
from bot.catalog.archive import Archive
from bot.catalog.keys import TOKEN_LENGTH as TOKEN_LENGTH
from bot.catalog.keys import look_up as _token
from bot.catalog.pagers import Pagers
from bot.catalog.quiet import QuietHours
from bot.catalog.services import Catalog, Directory, OnCall, Service, Team
from bot.catalog.shape import Strict as Strict
from bot.catalog.shape import Version as Version
from bot.kit.clock import parse_duration
from bot.kit.errors import UserError
from bot.kit.text import clip, nearest
from bot.kit.yaml import Document, YamlError
from bot.kit.yaml import load as load_yaml

GENERAL, CONNECTIONS, CATALOG, ROUTES = "tocsin.yaml", "connections.yaml", "catalog.yaml", "routes.yaml"
TARGETS, TRACKERS, SINKS = "targets.yaml", "trackers.yaml", "sinks.yaml"
# What an alert must have come with before a runbook starts because of it, with nobody looking.
TRUSTED_LENGTH, UNSIGNED = 32, ("generic",)
# The connection of alerts that runbooks themselves raise; nobody can send to it.
OWN = "runbook"
# What other releases or the field's other tools have, and this one refuses instead of ignoring it.
LATER = ("hold", "window", "flapping", "inhibit", "maintenance", "page", "roles")


class ConfigError(UserError):
    """Everything that is wrong with the configuration, a line each: ``file.yaml:12: message``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


# Slack and alert senders repeat themselves for minutes; what tells a repeat from news must outlive that by far.
SHORTEST, LONGEST = timedelta(days=1), timedelta(days=36500)


def _kept(value: Any) -> timedelta | None:
    if value == "forever":
        return None
    hint = "write how long to keep it, such as 7d or 36h, or forever"
    if isinstance(value, timedelta):
        kept = value
    elif not isinstance(value, str):
        raise ValueError(hint)
    else:
        try:
            kept = parse_duration(value)
        except (ValueError, OverflowError):
            raise ValueError(hint) from None
    if not SHORTEST <= kept <= LONGEST:
        raise ValueError("keep it for at least 1d and at most 36500d, or forever")
    return kept


Kept = Annotated[timedelta | None, BeforeValidator(_kept)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class Retention(Strict):
    """How long what is not the record is kept; None is for ever."""

    workflows: Kept = timedelta(days=7)
    deliveries: Kept = timedelta(days=90)
    requests: Kept = timedelta(days=90)


def _address(value: Any) -> Any:
    # A stand-in on this machine may do without TLS; anywhere else the keys would travel in the clear.
    if not re.fullmatch(r"(https://[A-Za-z0-9.-]+|http://(127\.0\.0\.1|localhost))(:\d{1,5})?", str(value)):
        raise ValueError("write https:// and a host, for example https://api.eu.pagerduty.com")
    return value


Address = Annotated[str, BeforeValidator(_address)]


SevName = Literal["SEV1", "SEV2", "SEV3", "SEV4", "SEV5"]


class PagerDuty(Strict):
    """`pagerduty:` in `tocsin.yaml`. Keys and tokens are named, never written here."""

    routing_key: Any
    services: dict[str, Any] = Field(default_factory=dict)
    api_token: Any = None
    from_email: str | None = Field(default=None, pattern=r"^[^@\s]+@[^@\s]+$")
    webhook_secrets: Any = None
    alerts: StrictBool = False
    events_url: Address = "https://events.pagerduty.com"
    api_url: Address = "https://api.pagerduty.com"


# Days on which people work; of a severity that is not here no post-mortem is expected.
_DUE: dict[SevName, int] = {"SEV1": 3, "SEV2": 5, "SEV3": 10}


class Postmortems(Strict):
    """`postmortems:` in `tocsin.yaml`: which template, due after how many working days, and own templates."""

    template: str = Field(default="full", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    template_by_severity: dict[SevName, Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]] = Field(
        default_factory=dict
    )
    due_days: dict[SevName, Annotated[StrictInt, Field(ge=1, le=90)]] = Field(default_factory=_DUE.copy)
    templates: str = "templates"


class General(Strict):
    """`tocsin.yaml`: how the bot behaves as a whole."""

    version: Version = 1
    announcement_channel: str | None = None
    channel_prefix: str = Field(default="inc", pattern=r"^[a-z0-9][a-z0-9-]{0,19}$")
    pager: str = "log"
    public_url: str | None = Field(default=None, pattern=r"^https?://[^\s/]+[^\s]*$")
    invite: tuple[str, ...] = ()
    runbooks: str = "runbooks"
    private_networks: tuple[str, ...] = ()
    runbook_environment: tuple[str, ...] = ()
    runbook_secrets: tuple[str, ...] = ()
    auto_runbooks: StrictBool = False
    auto_failures: Annotated[StrictInt, Field(ge=1, le=100)] = 3
    schedules: StrictBool = False
    quiet_hours: Annotated[tuple[QuietHours, ...], BeforeValidator(_listed)] = ()
    operations_channel: str | None = None
    retention: Retention = Retention()
    postmortems: Postmortems = Postmortems()
    pagerduty: PagerDuty | None = None
    page_ack_minutes: dict[SevName, Annotated[StrictInt, Field(ge=1, le=1440)]] | None = None
    fallback_pagers: tuple[str, ...] = ()
    fallback_after_seconds: Annotated[StrictInt, Field(ge=10, le=3600)] = 60
    page_on_severity: Literal["tell", "escalate", "nothing"] = "tell"
    page_updates: StrictBool = False
    email: pagers_.Email | None = None
    webhook: pagers_.Webhook | None = None
    oncall_webhook: pagers_.OnCallWebhook | None = None
    opsgenie: pagers_.Opsgenie | None = None
    archive: Archive | None = None

    @field_validator("private_networks")
    @classmethod
    def _networks(cls, found: tuple[str, ...]) -> tuple[str, ...]:
        for network in found:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ValueError(f"{network!r} is not a network; write for example 10.0.0.0/8") from None
        return found

    @field_validator("runbook_environment", "runbook_secrets")
    @classmethod
    def _variables(cls, found: tuple[str, ...]) -> tuple[str, ...]:
        for name in found:
            if not re.fullmatch(r"[A-Za-z_*][A-Za-z0-9_*]{0,63}", name):
                raise ValueError(f"{name!r} is not the name of a variable; write for example CHECKOUT_*")
        return found


@dataclass(frozen=True)
class Connection:
    """One sender of alerts: served at ``/alerts/{name}``, let in by any of its tokens."""

    name: str
    source: str
    tokens: tuple[SecretStr, ...]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def doubt(self) -> str | None:
        """Why its alerts are not proof enough for a runbook to start by itself, or None."""
        if self.source in UNSIGNED:
            return f"what comes by {self.name} is not signed, and anything can send it (source: {self.source})"
        if any(len(token.get_secret_value()) < TRUSTED_LENGTH for token in self.tokens):
            return f"a token of {self.name} is shorter than {TRUSTED_LENGTH} characters"
        return None


@dataclass(frozen=True)
class PagerDutyAccess:
    """What opens PagerDuty: a routing key for everything, those of *services*, and the REST API if there is a token."""

    routing_key: SecretStr
    services: Mapping[str, SecretStr]
    api_token: SecretStr | None
    from_email: str | None
    events_url: str
    api_url: str
    webhook_secrets: tuple[SecretStr, ...] = ()
    alerts: bool = False


@dataclass(frozen=True)
class Config:
    """The whole folder."""

    general: General = field(default_factory=General)
    connections: Mapping[str, Connection] = field(default_factory=dict)
    catalog: Catalog = field(default_factory=Catalog)
    pagerduty: PagerDutyAccess | None = None
    pagers: Pagers = field(default_factory=Pagers)

    @property
    def services(self) -> Mapping[str, Service]:
        """What is run."""
        return self.catalog.services

    @property
    def teams(self) -> Mapping[str, Team]:
        """Who owns it."""
        return self.catalog.teams

    @property
    def oncall(self) -> Mapping[str, OnCall]:
        """Who is on call, by name."""
        return self.catalog.oncall

    @property
    def directory(self) -> Directory:
        """The catalog, as asked by everybody."""
        return Directory(self.catalog, self.general.pager)


class _Connection(Strict):
    source: str
    token: Any
    labels: dict[str, str] = Field(default_factory=dict)


class _Connections(Strict):
    version: Version
    connections: dict[str, _Connection] = Field(default_factory=dict)

    @field_validator("connections", mode="before")
    @classmethod
    def _filled(cls, found: Any) -> Any:
        return found or {}


Shape = TypeVar("Shape", bound=BaseModel)


def load(folder: Path, env: Mapping[str, str]) -> Config:
    """Read the folder; a file that is not there means its defaults. Tokens are looked up in *env* and files.

    Raises ConfigError with every problem at once.
    """
    problems: list[str] = []
    problems += [
        f"{wrong.name}:1: this file is not read; call it {wrong.stem}.yaml"
        for wrong in sorted(folder.glob("*.yml"))
        if f"{wrong.stem}.yaml" in (GENERAL, CONNECTIONS, CATALOG, ROUTES, TARGETS, TRACKERS, SINKS)
    ]
    opening = _document(folder, GENERAL, problems)
    general = None if opening is None else _tried(opening, General, problems)
    pagerduty = None
    if opening is not None and general is not None and general.pagerduty is not None:
        pagerduty = _pagerduty(folder, opening, general.pagerduty, env, problems)
    pagers = Pagers()
    if opening is not None and general is not None:
        sections = {name: getattr(general, name) for name in ("email", "webhook", "oncall_webhook", "opsgenie")}
        pagers = pagers_.look(folder, opening, env, problems, **sections)
    catalog = _part(folder, CATALOG, Catalog, problems)
    connections: dict[str, Connection] = {}
    document = _document(folder, CONNECTIONS, problems)
    if document is not None and (raw := _tried(document, _Connections, problems)) is not None:
        for name, item in raw.connections.items():
            connections[name] = _connection(folder, document, name, item, env, problems)
    if problems:
        raise ConfigError(problems)
    found = catalog or Catalog()
    return Config(general or General(), connections, found, _mapped(pagerduty, found), pagers)


def _mapped(access: PagerDutyAccess | None, catalog: Catalog) -> PagerDutyAccess | None:
    """Services that the catalog gives the routing key of another name are paged with that."""
    if access is None:
        return None
    asked = {name: at.key for name, service in catalog.services.items() if (at := service.pager.get("pagerduty"))}
    named = {name: access.services[key] for name, key in asked.items() if key is not None and key in access.services}
    return replace(access, services={**access.services, **named})


def general(folder: Path) -> General:
    """What tocsin.yaml alone says, for whoever needs no more; ConfigError with all that is wrong in it."""
    found = document(folder / GENERAL)
    return General() if found is None else checked(found, General)


def document(path: Path) -> Document | None:
    """The YAML document at *path*, None when there is no such file; UserError when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise UserError(f"{path.name}:1: the file is not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{path.name}:1: the file cannot be read ({error.strerror})") from None
    return load_yaml(text, path.name)


def checked(found: Document, shape: type[Shape]) -> Shape:
    """*found* as a *shape*; ConfigError with a line for each problem."""
    if not isinstance(found.data, dict):
        raise ConfigError([f"{found.name}:1: the file must hold keys and values, first of all `version: 1`"])
    if "version" not in found.data:
        raise ConfigError([f"{found.name}:1: 'version' is missing; begin with `version: 1`"])
    return shaped(found, shape)


def shaped(found: Document, shape: type[Shape]) -> Shape:
    """*found*, which may be a part of a file, as a *shape*; ConfigError with a line for each problem."""
    try:
        return shape.model_validate(found.data)
    except ValidationError as error:
        told = [_told(found, shape, problem) for problem in error.errors(include_url=False)]
        raise ConfigError([f"{found.name}:{line}: {message}" for line, message in sorted(told)]) from None


# Pydantic's words for what the file calls otherwise.
_SAYS = {
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be keys and values",
    "model_type": "must be keys and values",
    "mapping_type": "must be keys and values",
    "string_type": "must be text",
    "bool_type": "must be true or false",
}


def _told(found: Document, shape: type[BaseModel], problem: ErrorDetails) -> tuple[int, str]:
    """The line of one problem and what is wrong there. What was written stays out: it may be a secret."""
    place = _real(found.data, problem["loc"])
    name, where, kind = str(problem["loc"][-1]) if problem["loc"] else "", ".".join(map(str, place)), problem["type"]
    if kind == "missing":
        return found.line(place), f"{name!r} is missing"
    if kind == "extra_forbidden":
        return found.line(place), _unknown(shape, problem["loc"])
    if problem["loc"] and problem["loc"][-1] == "[key]":
        return found.line(
            place
        ), f"{'.'.join(map(str, place[:-1]))}: {clip(str(place[-1]), 60)!r} cannot be a name here"
    said = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return found.line(place), f"{where}: {_SAYS.get(kind, said)}"


def _real(data: Any, place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The part of *place* that stands in the file: pydantic adds steps of its own, such as a union's branch."""
    path: list[int | str] = []
    for step in place:
        inside = (isinstance(data, dict) and step in data) or (
            isinstance(data, list) and isinstance(step, int) and step < len(data)
        )
        if inside:
            data = data[step]
            path.append(step)
    return tuple(path)


def _unknown(shape: type[BaseModel], place: tuple[int | str, ...]) -> str:
    name = str(place[-1]) if place else ""
    if name in LATER:
        return f"{name!r} is not supported in this version"
    words = _keys(shape, place[:-1])
    close = nearest(name, words)
    hint = f"did you mean {close!r}?" if close else f"there is: {', '.join(words)}"
    return f"unknown key {name!r}; {hint}"


def _keys(shape: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The keys allowed at *place*: found by walking the JSON Schema, which knows every nested shape."""
    schema = shape.model_json_schema()
    node: Any = schema

    def landed(node: Any) -> Any:
        while "$ref" in node or "anyOf" in node:
            # Of what may be left out, the first branch is what it is, and the other one null.
            node = node["anyOf"][0] if "anyOf" in node else schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
        return node

    for step in place:
        node = landed(node)
        if isinstance(step, int):
            node = node.get("items", {})
        else:
            named: Any = next(iter(node.get("patternProperties", {}).values()), {})
            node = node.get("properties", {}).get(step) or node.get("additionalProperties") or named
        if not isinstance(node, dict):
            return []
    return sorted(landed(node).get("properties", {}))


def _document(folder: Path, name: str, problems: list[str]) -> Document | None:
    try:
        return document(folder / name)
    except (YamlError, UserError) as error:
        problems.append(str(error))
        return None


def _tried(found: Document, shape: type[Shape], problems: list[str]) -> Shape | None:
    try:
        return checked(found, shape)
    except ConfigError as error:
        problems += error.problems
        return None


def _part(folder: Path, name: str, shape: type[Shape], problems: list[str]) -> Shape | None:
    found = _document(folder, name, problems)
    return None if found is None else _tried(found, shape, problems)


def _connection(
    folder: Path, found: Document, name: str, item: _Connection, env: Mapping[str, str], problems: list[str]
) -> Connection:
    def wrong(message: str, *place: str | int) -> None:
        problems.append(str(found.error(("connections", name, *place), f"connection {name!r}: {message}")))

    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        wrong("a name is part of an address: lower-case letters, digits and dashes")
    if name == OWN:
        wrong("this is the name of the alerts that runbooks raise; choose another")
    listed = isinstance(item.token, list)
    references = item.token if listed else [item.token]
    if not 1 <= len(references) <= 2:
        wrong("give one token, or two while you change it", "token")
        references = []
    tokens: list[SecretStr] = []
    for i, reference in enumerate(references):
        try:
            tokens.append(SecretStr(_token(folder, reference, env)))
        except UserError as error:
            wrong(str(error), "token", *([i] if listed else []))
    return Connection(name, item.source, tuple(tokens), item.labels)


def _pagerduty(
    folder: Path, found: Document, asked: PagerDuty, env: Mapping[str, str], problems: list[str]
) -> PagerDutyAccess | None:
    def secret(reference: Any, *place: str) -> SecretStr | None:
        try:
            token = _token(folder, reference, env, hint="PagerDuty makes no key that short")
            if re.search(r"\s", token):
                raise UserError("what is kept there holds white space, so it is no key")
            return SecretStr(token)
        except UserError as error:
            problems.append(str(found.error(("pagerduty", *place), f"pagerduty.{'.'.join(place)}: {error}")))
            return None

    before = len(problems)
    named = asked.webhook_secrets if isinstance(asked.webhook_secrets, list) else [asked.webhook_secrets]
    hooks = [secret(one, "webhook_secrets") for one in named if one is not None]
    if len(hooks) > 3:
        told = "pagerduty.webhook_secrets: give one secret, or two while you change it; three at most"
        problems.append(str(found.error(("pagerduty", "webhook_secrets"), told)))
    if asked.alerts and not hooks:
        told = "pagerduty.alerts: what PagerDuty tells comes by its webhook; set webhook_secrets"
        problems.append(str(found.error(("pagerduty", "alerts"), told)))
    routing_key = secret(asked.routing_key, "routing_key")
    services = {name: secret(reference, "services", name) for name, reference in asked.services.items()}
    api_token = None if asked.api_token is None else secret(asked.api_token, "api_token")
    if (asked.api_token is None) != (asked.from_email is None):
        which, other = ("from_email", "api_token") if asked.from_email is None else ("api_token", "from_email")
        told = f"pagerduty: {which} is missing; what is done with {other} is done in somebody's name"
        problems.append(str(found.error(("pagerduty",), told)))
    if routing_key is None or len(problems) > before:
        return None
    return PagerDutyAccess(
        routing_key,
        {name: key for name, key in services.items() if key is not None},
        api_token,
        asked.from_email,
        asked.events_url,
        asked.api_url,
        tuple(one for one in hooks if one is not None),
        asked.alerts,
    )
