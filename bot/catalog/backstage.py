"""A catalog out of Backstage's `catalog-info.yaml` files. What has no place in ours is named, never guessed."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bot.catalog.services import EMAIL, Catalog
from bot.kit.errors import UserError
from bot.kit.text import clean, clip, one_line, slug
from bot.kit.yaml import YamlError, dump, load_all

FILES = ("catalog-info.yaml", "catalog-info.yml")
# What of a folder is looked through, and how deep.
MOST_FILES, DEEP = 2000, 12
SKIPPED = frozenset({".git", "node_modules", ".venv", "vendor"})
DASHBOARDS = ("grafana/dashboard-url", "grafana/overview-dashboard", "datadoghq.com/dashboard-url")

Known = dict[str, Any]
Reference = tuple[str, str]  # kind and name, in lower case


@dataclass(frozen=True)
class Entity:
    """One document that says what it is; *where* is its file and line."""

    where: str
    kind: str
    name: str
    metadata: Mapping[str, Any]
    spec: Mapping[str, Any]

    @property
    def title(self) -> str:
        """What people are told it is."""
        return f"{self.kind} {self.name}"


@dataclass
class Imported:
    """A catalog as plain data, and a word on everything that was left out."""

    data: Known = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What is to be written into catalog.yaml."""
        return dump(self.data)


def read(paths: Sequence[Path], into: Mapping[str, Any] | None = None) -> Imported:
    """The catalog that the files under *paths* describe, added to what *into* says already: that wins."""
    made = Imported()
    before = into or {}
    _Import(made, list(_entities(paths, made.notes)), before).go()
    _merge(made, before)
    return made


def _entities(paths: Sequence[Path], notes: list[str]) -> Iterator[Entity]:
    seen: set[Reference] = set()
    for path in _files(paths):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            notes.append(f"{path}: cannot be read as UTF-8 text")
            continue
        for document in load_all(text, str(path)):
            if isinstance(document, YamlError):
                notes.append(str(document))
                continue
            found = _entity(f"{path}:{document.line(())}", document.data)
            if found is None:
                if document.data is not None:
                    notes.append(f"{path}:{document.line(())}: is no entity of Backstage")
                continue
            key = (found.kind.lower(), found.name.lower())
            if key in seen:
                notes.append(f"{found.where}: there is a {found.title} already; this one is left out")
                continue
            seen.add(key)
            yield found


def _files(paths: Sequence[Path]) -> list[Path]:
    """The files among *paths*, and those called catalog-info.yaml in the folders among them."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found |= dict.fromkeys(_inside(path, DEEP))
        elif path.exists():
            found[path] = None
        else:
            raise UserError(f"{path} does not exist")
    if len(found) > MOST_FILES:
        raise UserError(f"there are {len(found)} files, more than {MOST_FILES}; name fewer folders")
    return list(found)


def _inside(folder: Path, deep: int) -> Iterator[Path]:
    try:
        there = sorted(folder.iterdir())
    except OSError:
        return
    for path in there:
        if path.is_symlink():  # it may lead anywhere, or round in circles
            continue
        if path.name in FILES and path.is_file():
            yield path
        elif deep and path.is_dir() and path.name not in SKIPPED:
            yield from _inside(path, deep - 1)


def _entity(where: str, data: Any) -> Entity | None:
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
        return None
    metadata, spec = data.get("metadata"), data.get("spec")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
        return None
    kind = clip(one_line(clean(data["kind"])), 40)
    return Entity(where, kind, name, metadata or {}, spec if isinstance(spec, dict) else {})


class _Import:
    """Goes over the entities, kind by kind."""

    def __init__(self, made: Imported, entities: Sequence[Entity], before: Mapping[str, Any]) -> None:
        self.made, self.notes = made, made.notes
        self.known_teams = frozenset(_part(before, "teams"))
        self.by_kind: dict[str, list[Entity]] = {}
        for entity in entities:
            self.by_kind.setdefault(entity.kind.lower(), []).append(entity)
        self.services = {name.lower(): name for name in _part(before, "services")}
        self.services |= {entity.name.lower(): entity.name for entity in self._of("component")}
        self.teams: Known = {}
        self.providers: dict[str, list[str]] = {}

    def go(self) -> None:
        """Teams first, since everything has an owner."""
        self._groups()
        for entity in self._of("component"):
            for api in _listed(entity.spec.get("providesApis")):
                self.providers.setdefault(_reference(api, "api")[1], []).append(entity.name)
        services = {entity.name: self._service(entity) for entity in self._of("component")}
        assets = {entity.name: self._asset(entity) for entity in self._of("resource")}
        self._places(assets)
        self._needs(services)
        self._rest()
        found = {"services": services, "teams": self.teams, "assets": assets}
        self.made.data = {"version": 1, **{name: part for name, part in found.items() if part}}

    def _of(self, kind: str) -> list[Entity]:
        return self.by_kind.get(kind, [])

    def note(self, entity: Entity, text: str) -> None:
        """A word on something that has no place."""
        self.notes.append(f"{entity.where}: {entity.title}: {text}")

    # -- teams ------------------------------------------------------------------------------------------------------

    def _groups(self) -> None:
        mails = {entity.name.lower(): _mail(entity) for entity in self._of("user")}
        for entity in self._of("group"):
            name = entity.name.lower()
            self.teams[name] = _filled(description=_text(entity.metadata.get("description")))
            members = [_reference(one, "user")[1] for one in _listed(entity.spec.get("members"))]
            members += [
                user.name.lower()
                for user in self._of("user")
                if name in [_reference(one, "group")[1] for one in _listed(user.spec.get("memberOf"))]
            ]
            found = []
            for member in dict.fromkeys(members):
                mail = mails.get(member)
                if mail is None:
                    why = "has no e-mail address" if member in mails else "is described nowhere"
                    self.note(entity, f"its member {member} {why} and is left out")
                else:
                    found.append(mail)
            if found:
                self.teams[name]["members"] = found
            if related := [key for key in ("parent", "children") if entity.spec.get(key)]:
                self.note(entity, f"{' and '.join(related)} are left out: teams have no teams here")
        for entity in self._of("user"):
            if mails[entity.name.lower()] is None:
                self.note(entity, "has no e-mail address, so nobody can be found by it")

    def _owner(self, entity: Entity) -> str | None:
        given = entity.spec.get("owner")
        if given is None:
            return None
        kind, name = _reference(given, "group")
        if kind != "group" or not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", name):
            self.note(entity, f"its owner {_short(given)} is no group and is left out")
            return None
        if name not in self.teams and name not in self.known_teams:
            self.note(entity, f"its owner {name} is described nowhere; the team is made without members")
            self.teams[name] = {}
        return name

    # -- services ---------------------------------------------------------------------------------------------------

    def _service(self, entity: Entity) -> Known:
        links, dashboards = self._links(entity), self._dashboards(entity)
        title = _text(entity.metadata.get("title"))
        description = _text(entity.metadata.get("description")) or title
        if entity.spec.get("system"):
            self.note(entity, f"its system {_short(entity.spec['system'])} is left out: there are no systems here")
        return _filled(owner=self._owner(entity), description=description, links=links, dashboards=dashboards)

    def _links(self, entity: Entity) -> dict[str, str]:
        found: dict[str, str] = {}
        for link in _listed(entity.metadata.get("links")):
            url = link.get("url") if isinstance(link, dict) else None
            if not _address(url):
                self.note(entity, f"a link is left out: {_short(url)} is no address")
                continue
            title = _title(link.get("title")) or _title(str(url).split("://", 1)[1]) or "link"
            found[_unused(title, found)] = str(url)
        return found

    def _dashboards(self, entity: Entity) -> dict[str, str]:
        given = entity.metadata.get("annotations")
        annotations = given if isinstance(given, dict) else {}
        found: dict[str, str] = {}
        left = []
        for name, value in annotations.items():
            if name in DASHBOARDS and _address(value):
                found[_unused(_title(name.partition("/")[0]) or "dashboard", found)] = value
            elif not name.startswith("backstage.io/"):
                left.append(name)
        if left:  # without their values: one of them may be a key
            self.note(entity, f"annotations that mean nothing here: {', '.join(map(_short, left[:20]))}")
        return found

    def _needs(self, services: Known) -> None:
        """What a component depends on, and who provides the APIs that it consumes; never round in a circle."""
        needs: dict[str, list[str]] = {name: [] for name in services}
        for entity in self._of("component"):
            for other in dict.fromkeys(self._wanted(entity)):
                if other == entity.name or other in needs[entity.name]:
                    continue
                if _reaches(needs, other, entity.name):
                    self.note(entity, f"its need of {other} is left out: it would go in a circle")
                    continue
                needs[entity.name].append(other)
        for name, found in needs.items():
            if found:
                services[name]["dependencies"] = found

    def _wanted(self, entity: Entity) -> Iterator[str]:
        for given in _listed(entity.spec.get("dependsOn")):
            kind, name = _reference(given, "component")
            if kind == "component" and name in self.services:
                yield self.services[name]
            elif kind != "resource" or all(one.name.lower() != name for one in self._of("resource")):
                self.note(entity, f"it depends on {_short(given)}, which is described nowhere")
        for given in _listed(entity.spec.get("consumesApis")):
            _, name = _reference(given, "api")
            if name not in self.providers:
                self.note(entity, f"it consumes the API {_short(given)}, which nobody provides")
            yield from self.providers.get(name, [])

    # -- assets -----------------------------------------------------------------------------------------------------

    def _asset(self, entity: Entity) -> Known:
        kind = slug(_text(entity.spec.get("type")) or "", 30) or "resource"
        description = _text(entity.metadata.get("description")) or _text(entity.metadata.get("title"))
        self._dashboards(entity)
        return _filled(kind=kind, owner=self._owner(entity), description=description)

    def _places(self, assets: Known) -> None:
        """An asset is part of the service that depends on it, if that is one."""
        names = {name.lower(): name for name in assets}
        users: dict[str, list[str]] = {}
        for entity in self._of("component"):
            for given in _listed(entity.spec.get("dependsOn")):
                kind, name = _reference(given, "component")
                if kind == "resource" and name in names:
                    users.setdefault(names[name], []).append(entity.name)
        for entity in self._of("resource"):
            for given in _listed(entity.spec.get("dependencyOf")):
                kind, name = _reference(given, "component")
                if kind == "component" and name in self.services:
                    users.setdefault(entity.name, []).append(self.services[name])
            found = list(dict.fromkeys(users.get(entity.name, ())))
            if found:
                assets[entity.name]["service"] = found[0]
            if len(found) > 1:
                self.note(entity, f"{', '.join(found[1:])} need it too; it is part of {found[0]} here")

    def _rest(self) -> None:
        for kind, entities in self.by_kind.items():
            for entity in entities:
                if kind == "api" and entity.name.lower() not in self.providers:
                    self.note(entity, "nobody provides it, so it says nothing here")
                elif kind == "system":
                    self.note(entity, "there are no systems here; its components are services of their own")
                elif kind == "location":
                    self.note(entity, "is not followed; name the files or folders themselves")
                elif kind not in ("component", "group", "user", "resource", "api"):
                    self.note(entity, "is left out: there is nothing like it here")


def _merge(made: Imported, into: Mapping[str, Any]) -> None:
    """What was written before stays as it is; what it does not say is added."""
    merged: Known = {"version": 1}
    for part in dict.fromkeys([*into, *made.data]):
        if part != "version":
            merged[part] = _joined(into.get(part), made.data.get(part), deep=1)
    services = merged.get("services")
    if isinstance(services, dict):
        _sound(services, _part(into, "services"), made.notes)
    made.data = {name: part for name, part in merged.items() if part is not None}


def _joined(before: Any, new: Any, *, deep: int) -> Any:
    if not isinstance(before, dict) or not isinstance(new, dict):
        return new if before is None else before
    if not deep:
        return {**new, **before}
    return {name: _joined(before.get(name), new.get(name), deep=deep - 1) for name in dict.fromkeys([*before, *new])}


def _sound(services: Known, before: Mapping[str, Any], notes: list[str]) -> None:
    """Added to what was there, needs may go in a circle after all: then those that came in are left out."""
    needs = {name: _needed(before.get(name)) for name in services}
    for name, service in services.items():
        if needs[name] or not isinstance(service, dict) or "dependencies" not in service:
            continue
        for other in _needed(service):
            if _reaches(needs, other, name):
                notes.append(f"service {name}: its need of {other} is left out: it would go in a circle")
            else:
                needs[name].append(other)
        services[name] = {**service, "dependencies": needs[name]}


def _needed(service: Any) -> list[str]:
    return (
        [one for one in _listed(service.get("dependencies")) if isinstance(one, str)]
        if isinstance(service, dict)
        else []
    )


def _part(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def checked(made: Imported) -> Catalog:
    """The same as the bot will read it; UserError if what it was merged into cannot be read."""
    try:
        return Catalog.model_validate(made.data)
    except ValidationError as error:
        part = error.errors(include_input=False, include_url=False)[0]
        raise UserError(f"catalog.yaml: {'.'.join(map(str, part['loc']))}: {part['msg']}") from None


def _reaches(needs: Mapping[str, Sequence[str]], start: str, end: str) -> bool:
    seen, left = set(), [start]
    while left:
        name = left.pop()
        if name == end:
            return True
        if name not in seen:
            seen.add(name)
            left += needs.get(name, ())
    return False


def _reference(given: Any, kind: str) -> Reference:
    """`kind:namespace/name`, of which all but the name may be missing."""
    if isinstance(given, dict):
        given = f"{given.get('kind') or kind}:{given.get('name') or ''}"
    before, _, name = str(given).rpartition(":")
    return (before.lower() or kind, name.rpartition("/")[2].lower())


def _mail(entity: Entity) -> str | None:
    profile = entity.spec.get("profile")
    mail = profile.get("email") if isinstance(profile, dict) else None
    return mail if isinstance(mail, str) and EMAIL.fullmatch(mail) else None


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else []


def _filled(**parts: Any) -> Known:
    return {name: part for name, part in parts.items() if part}


def _text(given: Any) -> str:
    return clip(one_line(clean(given)), 500) if isinstance(given, str) else ""


def _title(given: Any) -> str:
    return clip(one_line(_text(given).replace("/", " ")), 60)


def _unused(title: str, taken: Iterable[str]) -> str:
    names = [title, *(f"{title} {n}" for n in range(2, 100))]
    return next((name for name in names if name not in set(taken)), title)


def _address(given: Any) -> bool:
    return isinstance(given, str) and bool(re.fullmatch(r"https?://[^\s<>|]{1,1200}", given)) and clean(given) == given


def _short(given: Any) -> str:
    return repr(clip(one_line(clean(str(given))), 80))
