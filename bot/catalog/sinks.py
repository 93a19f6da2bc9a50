"""`sinks.yaml`: which other systems are told what happens, of which incidents, and of what in them."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, StrictBool, StrictInt

from bot.catalog.config import SINKS, ConfigError, checked, document, shaped
from bot.catalog.keys import look_up
from bot.catalog.pagers import LOCAL
from bot.catalog.shape import Strict, Version
from bot.kit.errors import UserError
from bot.kit.text import nearest
from bot.kit.yaml import Document

Severity = Literal["SEV1", "SEV2", "SEV3", "SEV4", "SEV5"]
Glob = Annotated[str, Field(pattern=r"^[a-z_*?]+(\.[a-z_*?]+)?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
# What a sink does with its deliveries is no news for a sink: that would never end.
OWN = "delivery.*"


@dataclass(frozen=True)
class Named:
    """Marks a field of a sink's settings: it says where a secret is. As many as *most*, each of *least* characters."""

    most: int = 1
    least: int = 16


Secret = Annotated[Any, Named()]


def exact(value: Any) -> Any:
    """An address of HTTP with nothing in it that is secret."""
    if not isinstance(value, str) or not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+(/[^\s?#@]*)?", value):
        raise ValueError("write https://, a host and perhaps a path, for example https://grafana.example.com")
    return value


def below(value: Any) -> Any:
    """One that paths are put behind."""
    return exact(value).rstrip("/")


Exact = Annotated[str, BeforeValidator(exact)]
Web = Annotated[str, BeforeValidator(below)]


class SinkSettings(Strict):
    """What every sink has; a kind of sink adds its own keys."""

    kind: str
    events: tuple[Glob, ...] = ()
    severity: tuple[Severity, ...] = ()
    services: tuple[str, ...] = ()
    private: Literal["never", "reference"] = "never"
    ordered: StrictBool = True
    seconds: Annotated[StrictInt, Field(ge=1, le=60)] = 15
    plain_http: StrictBool = False
    ca: Path | None = None

    def usual(self) -> tuple[str, ...]:
        """The events it wants where `events` does not say."""
        return ("*",)

    def always(self) -> tuple[str, ...]:
        """The events it gets whatever `events`, `severity` and `services` say: those that somebody meant for it."""
        return ()

    def fits(self, severity: str, service: str | None, *, told: bool = False) -> bool:
        """Whether an incident is one of those that it is told about; *told* if it was before."""
        of = not self.services or service in self.services
        return of and (told or not self.severity or severity in self.severity)


@dataclass(frozen=True)
class Configured:
    """One sink: its settings, its secrets by the field that names them, and what it wants of what happens."""

    name: str
    settings: SinkSettings
    folder: Path = Path()
    secrets: Mapping[str, tuple[SecretStr, ...]] = field(default_factory=dict)
    line: int = 1

    def wants(self, kind: str) -> bool:
        """Whether it is told of events of this kind."""
        return _wanted((*(self.settings.events or self.settings.usual()), *self.settings.always()), kind)

    def takes(self, kind: str, severity: str, service: str | None, *, told: bool = False) -> bool:
        """Whether it is told of an event of this kind in such an incident; *told* if it was told of it before."""
        always = kind in self.settings.always()
        return self.wants(kind) and (always or self.settings.fits(severity, service, told=told))

    def secret(self, name: str) -> str:
        """The secret that the field *name* names."""
        return self.secrets[name][0].get_secret_value()

    def all(self) -> list[str]:
        """Every secret of it, to be kept out of what is said."""
        return [one.get_secret_value() for several in self.secrets.values() for one in several]

    @property
    def authority(self) -> Path | None:
        """The file of the authority to trust in place of the system's."""
        return None if self.settings.ca is None else self.folder / self.settings.ca


@functools.lru_cache(maxsize=4096)
def _wanted(events: tuple[str, ...], kind: str) -> bool:
    return not fnmatchcase(kind, OWN) and any(fnmatchcase(kind, glob) for glob in events)


class _File(Strict):
    version: Version
    sinks: dict[Name, dict[str, Any]] = Field(default_factory=dict)


def load(folder: Path, env: Mapping[str, str], kinds: Mapping[str, type[SinkSettings]]) -> dict[str, Configured]:
    """The sinks of *folder*; none where there is no file. ConfigError with everything that is wrong, a line each."""
    found = document(folder / SINKS)
    if found is None:
        return {}
    problems: list[str] = []
    made: dict[str, Configured] = {}
    for name, entry in checked(found, _File).sinks.items():
        try:
            made[name] = _sink(folder, env, found, name, entry, kinds)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return made


def _sink(
    folder: Path,
    env: Mapping[str, str],
    found: Document,
    name: str,
    entry: Mapping[str, Any],
    kinds: Mapping[str, type[SinkSettings]],
) -> Configured:
    place = ("sinks", name)
    kind = kinds.get(str(entry.get("kind")))
    if kind is None:
        said = f"there is no kind of sink {entry['kind']!r}" if "kind" in entry else "'kind' is missing"
        near = nearest(str(entry.get("kind")), list(kinds))
        hint = f"did you mean {near!r}?" if near else f"there is: {', '.join(sorted(kinds))}"
        raise ConfigError([str(found.error((*place, "kind"), f"sink {name!r}: {said}; {hint}"))])
    lines = {path[2:]: line for path, line in found.lines.items() if path[:2] == place}
    settings = shaped(Document(found.name, dict(entry), lines), kind)
    problems: list[str] = []
    secrets: dict[str, tuple[SecretStr, ...]] = {}
    for field_name, info in kind.model_fields.items():
        marks = [mark for mark in info.metadata if isinstance(mark, Named)]
        reference = getattr(settings, field_name)
        if not marks or reference is None:
            continue
        try:
            secrets[field_name] = _secrets(folder, env, reference, marks[0])
        except UserError as error:
            problems.append(str(found.error((*place, field_name), f"sink {name!r}: {field_name}: {error}")))
    if settings.ca is not None and not (folder / settings.ca).is_file():
        told = f"ca: there is no file {folder / settings.ca}"
        problems.append(str(found.error((*place, "ca"), f"sink {name!r}: {told}")))
    for field_name in ("url", "api_url"):
        url = getattr(settings, field_name, None)
        if isinstance(url, str) and url.startswith("http://") and not settings.plain_http and not _local(url):
            told = "goes over http://, where anybody on the way reads along; use https, or say plain_http: true"
            problems.append(str(found.error((*place, field_name), f"sink {name!r}: {field_name} {told}")))
    if problems:
        raise ConfigError(problems)
    return Configured(name, settings, folder, secrets, found.line(place))


def _secrets(folder: Path, env: Mapping[str, str], reference: Any, mark: Named) -> tuple[SecretStr, ...]:
    references = reference if isinstance(reference, list) else [reference]
    if not 1 <= len(references) <= mark.most:
        raise UserError("give one secret" + (", or two while you change it" if mark.most > 1 else ""))
    values = [look_up(folder, one, env, least=mark.least) for one in references]
    if any(re.search(r"\s", value) for value in values):
        raise UserError("what is kept there holds white space, so it is no key")
    return tuple(map(SecretStr, values))


def _local(url: str) -> bool:
    return LOCAL.fullmatch(re.sub(r"^https?://|[:/].*$", "", url)) is not None
