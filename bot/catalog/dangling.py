"""Names in catalog.yaml that lead nowhere, and needs that go in a circle. The bot runs all the same."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from bot.catalog.services import AtPager, Catalog, Directory
from bot.kit.text import nearest
from bot.kit.yaml import Document

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Known:
    """What other files and shelves have; *says* is whether the pager can say who is on call."""

    runbooks: Collection[str] = ()
    pagers: Collection[str] = ()
    keys: Collection[str] = ()
    connections: Mapping[str, str] = field(default_factory=dict)
    says: bool = True


def dangling(found: Document, directory: Directory, known: Known) -> list[str]:
    """A line for each: ``catalog.yaml:12: what``."""
    told = [*_services(directory.catalog, known), *_teams(directory.catalog, known), *_assets(directory.catalog)]
    told += [*_circles(directory.catalog), *_unsaid(directory, known)]
    lines = sorted((found.line(path), message) for path, message in told)
    return [f"{found.name}:{line}: {message}" for line, message in dict.fromkeys(lines)]


def _services(catalog: Catalog, known: Known) -> Iterator[tuple[Path, str]]:
    for name, service in catalog.services.items():
        at: Path = ("services", name)
        if catalog.teams and service.owner is not None and service.owner not in catalog.teams:
            yield (*at, "owner"), f"service {name!r}: there is no team {_near(service.owner, catalog.teams)}"
        for i, needed in enumerate(service.dependencies):
            if needed not in catalog.services:
                yield (*at, "dependencies", i), f"service {name!r}: it needs {_near(needed, catalog.services)}"
        for i, runbook in enumerate(service.runbooks):
            if runbook not in known.runbooks:
                yield (*at, "runbooks", i), f"service {name!r}: there is no runbook {_near(runbook, known.runbooks)}"
        yield from _on_call(at, f"service {name!r}", service.oncall, service.pager, catalog, known)
        if service.slo is not None:
            kind = known.connections.get(service.slo.connection)
            there = [one for one, kind_ in known.connections.items() if kind_ == "prometheus"]
            if kind is None:
                told = f"targets.yaml has no connection {_near(service.slo.connection, there)}"
                yield (*at, "slo"), f"service {name!r}: {told}, so its error budget stays unknown"
            elif kind != "prometheus":
                told = f"the connection {service.slo.connection!r} is of kind {kind}, not prometheus"
                yield (*at, "slo", "connection"), f"service {name!r}: {told}"


def _teams(catalog: Catalog, known: Known) -> Iterator[tuple[Path, str]]:
    for name, team in catalog.teams.items():
        yield from _on_call(("teams", name), f"team {name!r}", team.oncall, team.pager, catalog, known)


def _on_call(
    at: Path, who: str, oncall: str | None, pager: Mapping[str, AtPager], catalog: Catalog, known: Known
) -> Iterator[tuple[Path, str]]:
    if oncall is not None and oncall not in catalog.oncall:
        yield (*at, "oncall"), f"{who}: `oncall` has no {_near(oncall, catalog.oncall)}"
    for name, mapped in pager.items():
        if name not in known.pagers:
            yield (*at, "pager", name), f"{who}: there is no pager {_near(name, known.pagers)}"
        elif name == "pagerduty" and mapped.key is not None and mapped.key not in known.keys:
            told = f"pagerduty.services of tocsin.yaml has no {_near(mapped.key, known.keys)}"
            yield (*at, "pager", name, "key"), f"{who}: {told}"


def _assets(catalog: Catalog) -> Iterator[tuple[Path, str]]:
    for name, asset in catalog.assets.items():
        at: Path = ("assets", name)
        if asset.service is not None and asset.service not in catalog.services:
            yield (*at, "service"), f"asset {name!r}: there is no service {_near(asset.service, catalog.services)}"
        if catalog.teams and asset.owner is not None and asset.owner not in catalog.teams:
            yield (*at, "owner"), f"asset {name!r}: there is no team {_near(asset.owner, catalog.teams)}"


def _unsaid(directory: Directory, known: Known) -> Iterator[tuple[Path, str]]:
    if known.says:
        return
    for name, given in directory.catalog.oncall.items():
        if given.schedule is not None or given.policy is not None:
            told = f"the pager {directory.pager!r} cannot say who is on call there"
            yield ("oncall", name), f"on-call {name!r}: {told}; list people, or set up another pager in tocsin.yaml"


def _circles(catalog: Catalog) -> Iterator[tuple[Path, str]]:
    """Each circle once, at the service in it that stands first. Goes no deeper than there are services."""
    order = {name: place for place, name in enumerate(catalog.services)}
    done: set[str] = set()
    for start in order:
        path, choices = [start], [iter(catalog.services[start].dependencies)]
        while path:
            needed = next(choices[-1], None)
            if needed is None:
                done.add(path.pop())
                choices.pop()
            elif needed in path:
                circle = path[path.index(needed) :]
                first = circle.index(min(circle, key=order.__getitem__))
                circle = circle[first:] + circle[:first]
                told = " → ".join([*circle, circle[0]])
                yield ("services", circle[0], "dependencies"), f"the dependencies go in a circle: {told}"
            elif needed in order and needed not in done:
                path.append(needed)
                choices.append(iter(catalog.services[needed].dependencies))


def _near(name: str, known: Collection[str]) -> str:
    close = nearest(name, list(known))
    return f"{name!r}; did you mean {close!r}?" if close else f"{name!r}"
