"""YAML without its surprises: what it would guess at is text or an error, and every error knows its line."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from bot.kit.errors import UserError

LIMIT = 256 * 1024
Path = tuple[str | int, ...]

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}(?:[eE][-+]?[0-9]{1,3})?")
_WORDS = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "Null": None,
    "~": None,
    "": None,
}


class YamlError(UserError):
    """What is wrong with a file; reads ``name.yaml:12: message``."""

    def __init__(self, name: str, line: int, message: str) -> None:
        super().__init__(f"{name}:{line}: {message}")
        self.name, self.line, self.message = name, line, message


@dataclass(frozen=True)
class Document:
    """What a file holds, and on which line each part of it stands (1-based, by path of keys and indexes)."""

    name: str
    data: Any
    lines: dict[Path, int] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """The line of *path*, or of the nearest part above it that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def error(self, path: Path, message: str) -> YamlError:
        """An error that points at *path*."""
        return YamlError(self.name, self.line(path), message)


def load(text: str, name: str) -> Document:
    """Read one YAML document strictly.

    Booleans are ``true`` and ``false`` alone; ``on``, ``NO``, ``0755`` and ``12:30`` stay text. A duplicate key,
    an alias, a tag, a second document or a file over 256 kB is a `YamlError`.
    """
    _bounded(text, name)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise _invalid(error, name) from None
    return _built(node, name)


def load_all(text: str, name: str) -> Iterator[Document | YamlError]:
    """Read every document of a text, each as strictly; one that is wrong does not stop those after it.

    Text that is not YAML at all ends it, with the error.
    """
    try:
        _bounded(text, name)
        for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
            try:
                yield _built(node, name)
            except YamlError as error:
                yield error
    except (yaml.YAMLError, RecursionError) as error:
        yield _invalid(error, name)
    except YamlError as error:
        yield error


def _bounded(text: str, name: str) -> None:
    if len(text.encode("utf-8", "surrogatepass")) > LIMIT:
        raise YamlError(name, 1, f"the file is larger than {LIMIT // 1024} kB")


def _invalid(error: Exception, name: str) -> YamlError:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        return YamlError(name, mark.line + 1 if mark else 1, f"not valid YAML: {error.problem or error.context}")
    return YamlError(name, 1, f"not valid YAML: {str(error).splitlines()[0]}")


def _built(node: Any, name: str) -> Document:
    document = Document(name, None, {})
    seen: set[int] = set()

    def build(node: Any, path: Path) -> Any:
        document.lines[path] = node.start_mark.line + 1
        if id(node) in seen:
            raise document.error(path, "aliases (*name) are not allowed; write the value out")
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return _mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [build(item, (*path, i)) for i, item in enumerate(node.value)]
        return _scalar(document, node, path)

    def _mapping(node: Any, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlError(name, line, "a key must be plain text")
            key = key_node.value
            if key == "<<":
                raise YamlError(name, line, "merge keys (<<) are not allowed; write the values out")
            if key in found:
                raise YamlError(name, line, f"the key {key!r} stands here twice")
            found[key] = build(value_node, (*path, key))
            document.lines[(*path, key)] = line
        return found

    if node is None:
        return document
    try:
        return Document(name, build(node, ()), document.lines)
    except RecursionError:
        raise YamlError(name, 1, "nested too deeply") from None


def _scalar(document: Document, node: Any, path: Path) -> Any:
    text: str = node.value
    tag = str(node.tag)
    if tag.removeprefix("tag:yaml.org,2002:") not in (
        "str",
        "int",
        "float",
        "bool",
        "null",
        "timestamp",
        "value",
    ):
        raise document.error(path, f"tags are not allowed ({tag})")
    if node.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block."""

    def represent_str(self, text: str) -> Any:
        block = "\n" in text.strip("\n") and not re.search(r"[ \t]\n", text)
        # Some of these would be read as the end of a line.
        odd = re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]", text)
        return self.represent_scalar("tag:yaml.org,2002:str", text, style='"' if odd else "|" if block else None)

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(str, _Dumper.represent_str)


def dump(value: Any) -> str:
    """Plain data as one YAML document, in its own order, which `load` reads again."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
