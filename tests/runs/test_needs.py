"""What runbooks need and is not there is known before anybody presses their button."""

from pathlib import Path

import pytest

from bot.catalog.targets import Reach, Targets
from bot.kit.shelf import Shelf
from bot.runs import needs
from bot.runs.runbook import Runbook, load

HEAD = "version: 1\nid: {id}\nname: Look\nowner: me\n"
REACH = Reach(
    Targets.model_validate(
        {
            "hosts": {"web-1": {"address": "a", "user": "b", "key": "c", "known_hosts": "d"}},
            "connections": {"lb": {"url": "https://lb.example.com"}},
            "secrets": {"KEY": {"env": "A"}},
        }
    ),
    environment={"TOKEN": "x"},
)


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf("bot.steps", must_have=("Params", "run")).load()


def book(text: str, shelf: Shelf, name: str = "look") -> Runbook:
    return load(HEAD.format(id=name) + text, f"{name}.yaml", shelf)


def missing(shelf: Shelf, folder: Path, *texts: str) -> list[str]:
    books = [book(text, shelf, f"book-{number}") for number, text in enumerate(texts, 1)]
    return needs.missing(books, shelf, REACH, folder)


def test_what_is_there_is_not_told(shelf, tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/a.py").touch()
    text = """\
secrets: [KEY, TOKEN]
steps:
  - exec: {argv: [df], host: web-1}
  - exec: {argv: [df]}
  - http: {connection: lb, url: /}
  - script: {file: a.py}
  - note: hello
"""

    assert missing(shelf, tmp_path, text) == []


def test_each_thing_is_told_once_with_all_who_need_it(shelf, tmp_path):
    one = "secrets: [GONE]\nsteps:\n  - exec: {argv: [df], host: web-2}\n  - prometheus: {query: up}\n"
    two = "steps:\n  - prometheus: {query: up}\n  - script: {file: b.py}\n"

    assert missing(shelf, tmp_path, one, two) == [
        "targets.yaml has no connection 'prometheus', for book-1, book-2",
        "targets.yaml has no host 'web-2', for book-1",
        "there is no scripts/b.py beside the runbooks, for book-2",
        "there is no secret 'GONE' in targets.yaml and in the environment, for book-1",
    ]


def test_steps_below_others_are_looked_at_too(shelf, tmp_path):
    text = """\
params:
  pool: {type: choice, choices_from: {http: {connection: choices, url: /}, value: json}}
steps:
  - exec: {argv: [df]}
    rollback:
      - exec: {argv: [df], host: back}
    on_failure:
      - exec: {argv: [df], host: failed}
    dry_run: {http: {connection: instead, url: /}}
  - wait: {until: 'true', every: 1s, check: {http: {connection: check, url: /}}}
on_failure:
  - exec: {argv: [df], host: whole}
always:
  - exec: {argv: [df], host: last}
"""

    told = " ".join(missing(shelf, tmp_path, text))

    for name in ("choices", "back", "failed", "instead", "check", "whole", "last"):
        assert f"'{name}'" in told


def test_what_is_filled_in_is_not_guessed(shelf, tmp_path):
    text = "params: {host: {}}\nsteps:\n  - exec: {argv: [df], host: '{{ params.host }}'}\n"

    assert missing(shelf, tmp_path, text) == []


def test_what_needs_nothing_and_what_is_no_step_needs_nothing(shelf):
    assert needs.of(shelf["note"], {"text": "x"}) == ()
    assert needs.of(shelf["exec"], {"nonsense": 1}) == ()
    assert needs.of(shelf["exec"], {"argv": ["df"], "host": "web-1"}) == [("host", "web-1")]
