"""What the tests of trackers share: accesses as trackers.yaml gives them, and wishes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.catalog.targets import Reach, Secret
from bot.catalog.tracking import Access, Entry
from bot.incidents.tracker import Wish
from bot.kit.shelf import Shelf

SHELF = Shelf("bot.trackers", must_have=("Options", "make", "genuine", "heard")).load()
SECRET = "a-secret-of-the-webhooks"


def access(kind: str, url: str, token: str, *, username: str | None = None, **options: Any) -> Access:
    entry = Entry(kind=kind, url=url, username=username, token=Secret(env="TOKEN"), webhook=(Secret(env="HOOK"),))
    reach = Reach(folder=Path(), environment={"TOKEN": token, "HOOK": SECRET})
    return Access("ops", entry, SHELF[kind].Options(**options), reach)


def wish(key: str = "tocsin-INC-1", **more: Any) -> Wish:
    given = {"title": "INC-1: Checkout is slow", "body": "Severity: SEV2\n\nOpened by Tocsin.", "severity": "SEV2"}
    return Wish(key, **{**given, **more})


@pytest.fixture
def shelf() -> Shelf:
    return SHELF


Make = Callable[..., Any]
