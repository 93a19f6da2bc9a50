"""What opens each pager: its section of `tocsin.yaml`, and the same with its secrets looked up."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, StrictInt, model_validator

from bot.catalog.keys import look_up
from bot.catalog.shape import Strict
from bot.kit.errors import UserError
from bot.kit.yaml import Document

# One address and nothing else: what stands here becomes a line of the protocol.
Mailbox = Annotated[str, Field(pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$")]
PORTS = {"starttls": 587, "tls": 465, "none": 25}
LOCAL = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")


def https(value: Any) -> Any:
    """An address to send to. Only this machine may do without TLS: elsewhere keys would travel in the clear."""
    host = r"(https://[A-Za-z0-9.-]+|http://(127\.0\.0\.1|localhost))(:\d{1,5})?"
    if not isinstance(value, str) or not re.fullmatch(rf"{host}(/[^\s?#]*)?(\?[^\s#]*)?", value):
        raise ValueError("write https://, a host and a path, for example https://hooks.example.com/page")
    return value


Url = Annotated[str, BeforeValidator(https)]


class Email(Strict):
    """`email:` in `tocsin.yaml`."""

    host: str = Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$")
    port: Annotated[StrictInt, Field(ge=1, le=65535)] | None = None
    tls: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: Any = None
    sender: Mailbox = Field(alias="from")
    to: tuple[Mailbox, ...] = Field(min_length=1, max_length=20)
    services: dict[str, tuple[Mailbox, ...]] = Field(default_factory=dict)
    ca: Path | None = None

    @model_validator(mode="after")
    def _fits(self) -> "Email":
        if self.tls == "none" and not LOCAL.fullmatch(self.host):
            raise ValueError("tls: none is for a server on this machine; use starttls or tls")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        return self


class Webhook(Strict):
    """`webhook:` in `tocsin.yaml`."""

    url: Url
    secret: Any
    services: dict[str, Url] = Field(default_factory=dict)


class OnCallWebhook(Strict):
    """`oncall_webhook:` in `tocsin.yaml`. Whoever has the address can page, so it is a secret."""

    url: Any
    services: dict[str, Any] = Field(default_factory=dict)


class Opsgenie(Strict):
    """`opsgenie:` in `tocsin.yaml`: Opsgenie, or Jira Service Management's operations."""

    api_key: Any
    services: dict[str, Any] = Field(default_factory=dict)
    api_url: Url = "https://api.opsgenie.com"
    cloud_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]{8,64}$")
    user: str | None = Field(default=None, pattern=r"^[^@\s:]+@[^@\s:]+$")
    escalation: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> "Opsgenie":
        if (self.cloud_id is None) != (self.user is None):
            raise ValueError("cloud_id and user go together: whose API token api_key is")
        if self.cloud_id is not None and self.services:
            raise ValueError("services does nothing with cloud_id: there is one API token for everything")
        return self


@dataclass(frozen=True)
class Secrets:
    """The secrets of one section: *main* of the section itself, and those of single services."""

    main: tuple[SecretStr, ...] = ()
    services: Mapping[str, SecretStr] | None = None

    def of(self, service: str | None) -> str:
        """The one for *service*, else the main one."""
        found = (self.services or {}).get(service or "") or self.main[0]
        return found.get_secret_value()

    def all(self) -> list[str]:
        """Every one of them, to be kept out of what is said."""
        return [one.get_secret_value() for one in (*self.main, *(self.services or {}).values())]


@dataclass(frozen=True)
class Pagers:
    """The sections that are there, each with its secrets. *folder* is what paths in them are relative to."""

    folder: Path = Path()
    email: tuple[Email, Secrets] | None = None
    webhook: tuple[Webhook, Secrets] | None = None
    oncall_webhook: tuple[OnCallWebhook, Secrets] | None = None
    opsgenie: tuple[Opsgenie, Secrets] | None = None


@dataclass(frozen=True)
class _Reader:
    folder: Path
    found: Document
    env: Mapping[str, str]
    problems: list[str]

    def secret(self, reference: Any, *place: str | int, least: int, check: Callable[[str], str | None]) -> SecretStr:
        try:
            value = look_up(self.folder, reference, self.env, least=least)
            if wrong := check(value):
                raise UserError(wrong)
            return SecretStr(value)
        except UserError as error:
            self.problems.append(str(self.found.error(place, f"{'.'.join(map(str, place))}: {error}")))
            return SecretStr("")


def _key(value: str) -> str | None:
    return "what is kept there holds white space, so it is no key" if re.search(r"\s", value) else None


def _anything(value: str) -> str | None:
    return None


def _where(value: str) -> str | None:
    try:
        https(value)
    except ValueError as error:
        return f"what is kept there is no address: {error}"
    return None


def look(
    folder: Path,
    found: Document,
    env: Mapping[str, str],
    problems: list[str],
    *,
    email: Email | None = None,
    webhook: Webhook | None = None,
    oncall_webhook: OnCallWebhook | None = None,
    opsgenie: Opsgenie | None = None,
) -> Pagers:
    """The sections with their secrets; what cannot be had is added to *problems*."""
    reader = _Reader(folder, found, env, problems)

    def one(section: str, name: str, reference: Any, least: int, check: Callable[[str], str | None]) -> Secrets:
        return Secrets((reader.secret(reference, section, name, least=least, check=check),))

    def each(
        section: str, name: str, asked: OnCallWebhook | Opsgenie, least: int, check: Callable[[str], str | None]
    ) -> Secrets:
        services = {
            service: reader.secret(reference, section, "services", service, least=least, check=check)
            for service, reference in asked.services.items()
        }
        return Secrets(one(section, name, getattr(asked, name), least, check).main, services)

    def listed(asked: Webhook) -> Secrets:
        references = asked.secret if isinstance(asked.secret, list) else [asked.secret]
        if not 1 <= len(references) <= 2:
            told = "webhook.secret: give one secret, or two while you change it"
            problems.append(str(found.error(("webhook", "secret"), told)))
            return Secrets()
        return Secrets(tuple(reader.secret(item, "webhook", "secret", least=32, check=_key) for item in references))

    made = Pagers(folder)
    if email is not None:
        if email.ca is not None and not (folder / email.ca).is_file():
            problems.append(str(found.error(("email", "ca"), f"email.ca: there is no file {folder / email.ca}")))
        password = one("email", "password", email.password, 1, _anything) if email.password else Secrets()
        made = replace(made, email=(email, password))
    if webhook is not None:
        made = replace(made, webhook=(webhook, listed(webhook)))
    if oncall_webhook is not None:
        made = replace(made, oncall_webhook=(oncall_webhook, each("oncall_webhook", "url", oncall_webhook, 16, _where)))
    if opsgenie is not None:
        made = replace(made, opsgenie=(opsgenie, each("opsgenie", "api_key", opsgenie, 16, _key)))
    return made
