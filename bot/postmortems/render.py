"""Turns facts into a Markdown document; no text of a person or a machine can become markup in it."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import yaml
from jinja2 import FileSystemLoader, StrictUndefined, Template, TemplateError, TemplateNotFound, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

import bot
from bot.kit.clock import duration_text
from bot.kit.errors import BotError, UserError
from bot.kit.text import one_line
from bot.postmortems import bounded
from bot.postmortems.facts import Facts

FOLDER, SUFFIX = "postmortems", ".md.j2"
# Far above any draft a person would read; a template that loops ends here.
LIMIT = 4_000_000

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
# A single underscore between letters or digits is no emphasis in Markdown: metric names stay readable in the source.
_MARKUP = re.compile(r"[\\`*\[\]{}|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_LINE_START = re.compile(r"(?:[#+=-]|\d{1,9}(?=[.)](?:\s|$)))")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Markdown(str):
    """Text that is Markdown already; everything else is escaped where a template prints it."""

    __slots__ = ()


def render(facts: Facts, template: str = "full", folder: Path | None = None, *, seconds: int = bounded.SECONDS) -> str:
    """The document of *facts*: the same facts give the same text.

    Templates in *folder* (which has a ``postmortems/`` in it) go before those that come with Tocsin, and are filled in
    by a process of their own that has no secrets and ends. Raises UserError on a template that does not exist, does
    not work or does not end.
    """
    if folder is not None and _NAME.fullmatch(template) and (folder / FOLDER / (template + SUFFIX)).is_file():
        return bounded.run(
            "bot.postmortems.render",
            json.dumps({"facts": facts.as_json(), "template": template, "folder": str(folder), "seconds": seconds}),
            what=f"The post-mortem template {template!r}",
            seconds=seconds,
        )
    return filled(facts, template, folder)


def filled(facts: Facts, template: str, folder: Path | None) -> str:
    """What `render` returns, made in this process."""
    pieces: list[str] = []
    size = 0
    try:
        for piece in _template(template, folder or templates_folder()).generate(**_context(facts, template)):
            pieces.append(piece)
            size += len(piece)
            if size > LIMIT:
                raise UserError(
                    f"The post-mortem template {template!r} writes more than {LIMIT // 1_000_000} million characters."
                )
    except TemplateSyntaxError as error:
        raise UserError(
            f"The post-mortem template {template!r} is broken in line {error.lineno}: {error.message}"
        ) from None
    except MemoryError:
        raise UserError(f"The post-mortem template {template!r} takes more memory than it may.") from None
    except (
        TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise UserError(f"The post-mortem template {template!r} does not work: {error}") from error
    return "".join(pieces).rstrip() + "\n"


def templates(folder: Path | None = None) -> dict[str, Path]:
    """Every template by its name; those in *folder* go before those that come with Tocsin."""
    places = [templates_folder(), *([folder] if folder else [])]
    found = {path.name.removesuffix(SUFFIX): path for place in places for path in (place / FOLDER).glob(f"*{SUFFIX}")}
    return {name: found[name] for name in sorted(found) if _NAME.fullmatch(name)}


def templates_folder() -> Path:
    """Where the templates are: inside the package when installed, at the top of the tree in a checkout."""
    package = Path(bot.__file__).parent
    packed = package / "data" / "templates"
    return packed if packed.is_dir() else package.parent / "templates"


def _template(name: str, folder: Path) -> Template:
    environment = _environment(folder)
    if _NAME.fullmatch(name):
        try:
            return environment.get_template(name + SUFFIX)
        except TemplateNotFound:
            pass
    known = sorted(
        found.removesuffix(SUFFIX) for found in environment.list_templates(filter_func=lambda n: n.endswith(SUFFIX))
    )
    raise UserError(f"There is no post-mortem template {name!r}; there is: {', '.join(known) or 'none'}.")


@cache
def _environment(folder: Path) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(list(dict.fromkeys([folder / FOLDER, templates_folder() / FOLDER]))),
        undefined=StrictUndefined,
        autoescape=False,  # the document is Markdown, not HTML; `finalize` escapes for it
        finalize=escaped,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        md=md, quoted=quoted, link=link, yaml=dumped, when=when, lasted=lasted, sentence=sentence
    )
    return environment


def _context(facts: Facts, template: str) -> dict[str, Any]:
    shown = {row.number for row in facts.rows}

    def ref(number: int | None) -> Markdown:
        if number is None:
            return Markdown("")
        return Markdown(f"[#{number}](#event-{number})" if number in shown else f"#{number}")

    reference: Callable[[int | None], Markdown] = ref
    return {"facts": facts, "front": front(facts, template), "ref": reference}


def front(facts: Facts, template: str) -> dict[str, Any]:
    """What a machine reads at the top of the document. What only people know is null or "unknown"."""
    return {
        "id": facts.reference,
        "title": facts.title,
        "status": "draft",
        "kind": facts.kind,
        "private": facts.private,
        "severity": {"final": facts.severity, "highest": facts.highest},
        "services": [facts.service] if facts.service else [],
        "team": facts.team,
        "owner": None,
        "facilitator": None,
        "review_due": None,
        "timestamps": {moment.name: _iso(moment.at) for moment in facts.moments},
        "durations_seconds": {
            duration.name.replace(" ", "_"): _whole(duration.seconds) for duration in facts.durations
        },
        "time_in_severity_seconds": {spent.value: _whole(spent.seconds) for spent in facts.time_in_severity},
        "time_in_status_seconds": {spent.value: _whole(spent.seconds) for spent in facts.time_in_status},
        "reopened": facts.reopened,
        "detection_source": facts.detection,
        "customer_impact": {"users": "unknown", "requests": "unknown", "regions": "unknown", "revenue": "unknown"},
        "participants": list(facts.people),
        "links": [alert.url for alert in facts.alerts if _safe(alert.url)],
        "template": template,
        "source": {"events": facts.events, "last_event_at": _iso(facts.last_event_at)},
    }


# How values are written


def escaped(value: Any) -> str:
    """What a template prints: Markdown as it is, everything else so that it means nothing."""
    return value if isinstance(value, Markdown) else md(str(value))


def md(text: str) -> Markdown:
    """*text* on one line, without any meaning in Markdown, HTML or a table."""
    line = _MARKUP.sub(r"\\\g<0>", one_line(text)).translate(_ENTITIES)
    start = _LINE_START.match(line)
    if start:
        # A digit cannot be escaped, the dot or bracket after it can.
        at = start.end() if line[0].isdigit() else 0
        line = f"{line[:at]}\\{line[at:]}"
    return Markdown(line)


def quoted(text: str) -> Markdown:
    """*text* as a block quote, line by line."""
    lines = [md(line) for line in re.split(r"[\n\r\u2028\u2029]", text)]
    return Markdown(
        "\n".join(
            f"> {line}\\" if line and after else f"> {line}".rstrip()
            for line, after in zip(lines, [*lines[1:], ""], strict=True)
        )
    )


def link(url: str, words: str = "") -> Markdown:
    """A link, if *url* is a web address; its plain text otherwise."""
    if not _safe(url):
        return md(url)
    return Markdown(f"[{md(words or url)}](<{quote(url, safe=_IN_URLS)}>)")


_IN_URLS = "%:/?#[]@!$&'()*+,;=-._~"


def _safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def when(at: datetime | None) -> str:
    """Date and time in UTC, or "not recorded"."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "not recorded"


def lasted(seconds: float) -> str:
    """A duration for people."""
    if 0 < seconds < 1:
        return "under 1 s"
    return duration_text(timedelta(seconds=seconds)) if abs(seconds) < 3e9 else f"{seconds:.0f} s"


def sentence(text: str) -> str:
    """*text* with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def dumped(value: Mapping[str, Any]) -> Markdown:
    """*value* as YAML."""
    text: str = yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=10**9)
    return Markdown(text.rstrip("\n"))


def _iso(at: datetime | None) -> str | None:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else None


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)


def _main() -> None:
    """Fill in one template, within the bounds of this process."""
    given = json.load(sys.stdin)
    bounded.begin(given["seconds"])
    try:
        text = filled(Facts.from_json(given["facts"]), given["template"], Path(given["folder"]))
    except BotError as error:
        bounded.refuse(str(error))
    sys.stdout.buffer.write(text.encode())


if __name__ == "__main__":
    _main()
