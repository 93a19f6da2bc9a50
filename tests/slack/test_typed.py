"""What people type to start a runbook, with the quotes and dashes that their keyboards make of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.kit.errors import UserError
from bot.slack.typed import Typed, parse


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("", Typed()),
        ("restart", Typed("restart")),
        ("run restart", Typed("restart", run=True)),
        ("INC-3 restart", Typed("restart", "INC-3")),
        ("run restart INC-3 host=web-1", Typed("restart", "INC-3", run=True, given={"host": "web-1"})),
        ("run INC-3 restart a=1 b=2", Typed("restart", "INC-3", run=True, given={"a": "1", "b": "2"})),
        ('restart why="two words" url=a=b', Typed("restart", given={"why": "two words", "url": "a=b"})),
        ("restart why=“two words”", Typed("restart", given={"why": "two words"})),
        ("restart who=<@U01BOB>", Typed("restart", given={"who": "U01BOB"})),
        ("restart --dry-run", Typed("restart", dry_run=True)),
        ("restart —dry-run", Typed("restart", dry_run=True)),
        ('restart --break-glass "prod is down"', Typed("restart", break_glass="prod is down")),
        ("restart --break-glass=“it burns”", Typed("restart", break_glass="it burns")),
        ("restart --break-glass", Typed("restart", break_glass="")),
        ("restart host=", Typed("restart", given={"host": ""})),
        (r"restart path=C:\temp it=it's", Typed("restart", given={"path": r"C:\temp", "it": "it's"})),
        ("run run", Typed("run", run=True)),
    ],
)
def test_what_is_typed_is_understood(text, typed):
    assert parse(text) == typed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("restart --dry-rum", "Did you mean `--dry-run`?"),
        ("restart --force", "`--force` is not known here."),
        ("restart web-1", "What is `web-1`? Values are written `name=value`"),
        ('restart why="two words', 'A `"` is not closed.'),
    ],
)
def test_what_is_not_understood_is_said(text, told):
    with pytest.raises(UserError, match=None) as error:
        parse(text)
    assert told in str(error.value)


@given(st.text(max_size=200))
def test_nothing_that_can_be_typed_is_an_error_of_ours(text):
    try:
        found = parse(text)
    except UserError:
        return
    assert isinstance(found, Typed)
