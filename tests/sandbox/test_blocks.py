"""The Block Kit validator."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.sandbox.blocks import CUMULATIVE, text_length, validate_blocks, validate_view
from tests.sandbox.shapes import actions, button, field, menu, modal, mrkdwn, option, plain, section

TICKS = {"type": "checkboxes", "options": [option("a")]}
TABLE = {"type": "table", "rows": [[{"type": "raw_text", "text": "a"}]]}
CONFIRM = {"title": plain("Sure?"), "text": mrkdwn("It ends."), "confirm": plain("Yes"), "deny": plain("No")}

GOOD = {
    "section": [section()],
    "fields only": [{"type": "section", "fields": [mrkdwn("a"), plain("b")]}],
    "accessory": [section(accessory=button(confirm=CONFIRM))],
    "header": [{"type": "header", "text": plain("Title")}],
    "context": [{"type": "context", "elements": [mrkdwn("a")]}],
    "actions": [actions(button("a", style="danger"), menu("x", initial_option=option("x")))],
    "the same action in two blocks": [actions(button("a")), actions(button("a"))],
    "people": [actions({"type": "users_select", "action_id": "u", "initial_user": "U1"})],
    "rich text": [
        {
            "type": "rich_text",
            "elements": [
                {"type": "rich_text_section", "elements": [{"type": "text", "text": "a"}]},
                {
                    "type": "rich_text_list",
                    "style": "bullet",
                    "elements": [{"type": "rich_text_section", "elements": [{"type": "user", "user_id": "U1"}]}],
                },
            ],
        }
    ],
    "markdown": [{"type": "markdown", "text": "# a"}],
    "table": [TABLE],
    "plan": [{"type": "plan", "title": "Run", "tasks": [{"type": "task_card", "task_id": "1", "title": "a"}]}],
    "image": [{"type": "image", "image_url": "https://example.com/a.png", "alt_text": "a"}],
}

BAD = {
    "no list": ("hello", "/blocks"),
    "51 blocks": ([{"type": "divider"}] * 51, "/blocks"),
    "unknown type": ([{"type": "sectoin"}], "/blocks/0/type"),
    "no type": ([{}], "/blocks/0/type"),
    "text and fields missing": ([{"type": "section"}], "/blocks/0"),
    "empty text": ([section("")], "/blocks/0/text/text"),
    "section of 3001": ([section("x" * 3001)], "/blocks/0/text/text"),
    "text as a string": ([{"type": "section", "text": "hello"}], "/blocks/0/text"),
    "11 fields": ([{"type": "section", "fields": [mrkdwn("x")] * 11}], "/blocks/0/fields"),
    "field of 2001": ([{"type": "section", "fields": [mrkdwn("x" * 2001)]}], "/blocks/0/fields/0/text"),
    "header in mrkdwn": ([{"type": "header", "text": mrkdwn("x")}], "/blocks/0/text/type"),
    "header of 151": ([{"type": "header", "text": plain("x" * 151)}], "/blocks/0/text/text"),
    "11 in a context": ([{"type": "context", "elements": [mrkdwn("x")] * 11}], "/blocks/0/elements"),
    "button in a context": ([{"type": "context", "elements": [button()]}], "/blocks/0/elements/0/type"),
    "no elements": ([actions()], "/blocks/0/elements"),
    "26 elements": ([actions(*[button(str(i)) for i in range(26)])], "/blocks/0/elements"),
    "button text of 76": ([actions(button(text="x" * 76))], "/blocks/0/elements/0/text/text"),
    "button text in mrkdwn": ([actions(button() | {"text": mrkdwn("x")})], "/blocks/0/elements/0/text/type"),
    "button value of 2001": ([actions(button(value="x" * 2001))], "/blocks/0/elements/0/value"),
    "button style": ([actions(button(style="warning"))], "/blocks/0/elements/0/style"),
    "button url": ([actions(button(url="javascript:alert(1)"))], "/blocks/0/elements/0/url"),
    "action id twice": ([actions(button("a"), button("a"))], "/blocks/0/elements/1/action_id"),
    "action id of 256": ([actions(button("a" * 256))], "/blocks/0/elements/0/action_id"),
    "block id twice": ([section(block_id="a"), section(block_id="a")], "/blocks/1/block_id"),
    "no options": ([actions(menu())], "/blocks/0/elements/0/options"),
    "101 options": ([actions(menu(*map(str, range(101))))], "/blocks/0/elements/0/options"),
    "option text of 76": (
        [actions(menu() | {"options": [option("a", "x" * 76)]})],
        "/blocks/0/elements/0/options/0/text/text",
    ),
    "option value of 151": ([actions(menu("x" * 151))], "/blocks/0/elements/0/options/0/text/text"),
    "initial option that is none": (
        [actions(menu("a", initial_option=option("b")))],
        "/blocks/0/elements/0/initial_option",
    ),
    "placeholder of 151": ([actions(menu("a", placeholder=plain("x" * 151)))], "/blocks/0/elements/0/placeholder/text"),
    "6 in an overflow": (
        [actions({"type": "overflow", "options": [option(str(i)) for i in range(6)]})],
        "/blocks/0/elements/0/options",
    ),
    "11 checkboxes": (
        [actions(TICKS | {"options": [option(str(i)) for i in range(11)]})],
        "/blocks/0/elements/0/options",
    ),
    "confirm without text": (
        [actions(button(confirm={"title": plain("a"), "confirm": plain("b"), "deny": plain("c")}))],
        "/blocks/0/elements/0/confirm",
    ),
    "confirm title of 101": (
        [actions(button(confirm=CONFIRM | {"title": plain("x" * 101)}))],
        "/blocks/0/elements/0/confirm/title/text",
    ),
    "text input in actions": (
        [actions({"type": "plain_text_input", "action_id": "a"})],
        "/blocks/0/elements/0/type",
    ),
    "button in an input": ([field("a", button())], "/blocks/0/element/type"),
    "image without alt text": ([{"type": "image", "image_url": "https://example.com/a"}], "/blocks/0"),
    "image without a source": ([{"type": "image", "alt_text": "a"}], "/blocks/0"),
    "markdown of 12001": ([{"type": "markdown", "text": "x" * 6001}] * 2, "/blocks"),
    "two tables": ([TABLE, TABLE], "/blocks"),
    "101 rows": ([{"type": "table", "rows": TABLE["rows"] * 101}], "/blocks/0/rows"),
    "21 cells": ([{"type": "table", "rows": [TABLE["rows"][0] * 21]}], "/blocks/0/rows/0"),
    "alert in a message": ([{"type": "alert", "text": mrkdwn("x")}], "/blocks/0/type"),
    "unknown field": ([section(color="red")], "/blocks/0/color"),
    "pending task outside a plan": (
        [{"type": "task_card", "task_id": "1", "title": "a", "status": "pending"}],
        "/blocks/0/status",
    ),
    "rich text list without a style": (
        [{"type": "rich_text", "elements": [{"type": "rich_text_list", "elements": []}]}],
        "/blocks/0/elements/0",
    ),
}

BAD_VIEWS = {
    "no object": (None, ""),
    "type": (modal() | {"type": "dialog"}, "/type"),
    "title of 25": (modal(title=plain("x" * 25)), "/title/text"),
    "no title": (modal(title=None), ""),
    "submit of 25": (modal(submit=plain("x" * 25)), "/submit/text"),
    "input without submit": (modal(submit=None), "/submit"),
    "private_metadata of 3001": (modal(private_metadata="x" * 3001), "/private_metadata"),
    "callback_id of 256": (modal(callback_id="x" * 256), "/callback_id"),
    "101 blocks": (modal(*[{"type": "divider"}] * 101), "/blocks"),
    "markdown in a modal": (modal({"type": "markdown", "text": "x"}), "/blocks/0/type"),
    "max_length of 3001": (
        modal(field("a", {"type": "plain_text_input", "action_id": "a", "max_length": 3001})),
        "/blocks/0/element/max_length",
    ),
    "number without is_decimal_allowed": (
        modal(field("a", {"type": "number_input", "action_id": "a"})),
        "/blocks/0/element",
    ),
    "two with focus": (
        modal(*[field(n, {"type": "plain_text_input", "action_id": "a", "focus_on_load": True}) for n in "ab"]),
        "/blocks/1/element/focus_on_load",
    ),
    "unknown field": (modal(colour="red"), "/colour"),
}


@pytest.mark.parametrize("blocks", GOOD.values(), ids=GOOD)
def test_what_slack_takes_is_taken(blocks):
    assert validate_blocks(blocks) == []


@pytest.mark.parametrize(("blocks", "pointer"), BAD.values(), ids=BAD)
def test_what_slack_refuses_is_refused_at_its_place(blocks, pointer):
    assert pointer in [p.pointer for p in validate_blocks(blocks)]


@pytest.mark.parametrize(("view", "pointer"), BAD_VIEWS.values(), ids=BAD_VIEWS)
def test_a_view_slack_refuses_is_refused_at_its_place(view, pointer):
    assert pointer in [p.pointer for p in validate_view(view)]


def test_a_modal_may_have_100_blocks_and_a_home_tab_no_title():
    assert validate_view(modal(*[{"type": "divider"}] * 100)) == []
    assert validate_view({"type": "home", "blocks": [section()]}) == []


def test_the_text_of_all_blocks_counts_together():
    assert text_length([section("x" * 3000)] * 5) == 15_000 > CUMULATIVE


KEYS = "type text fields elements element accessory options option_groups confirm label rows blocks title tasks"
KEYS += " initial_option initial_options value style url block_id action_id placeholder submit"
KINDS = "section header context actions input image rich_text markdown table plan task_card alert button mrkdwn"
KINDS += " static_select checkboxes overflow plain_text_input number_input users_select plain_text modal home"
KINDS += " rich_text_list rich_text_section"
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(KINDS.split()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS.split()) | st.text(max_size=3), inner, max_size=6)
    ),
    max_leaves=25,
)


@given(ANYTHING)
@settings(max_examples=150, deadline=None)
def test_no_json_whatever_makes_the_validator_fail(value):
    for surface in ("message", "modal", "home"):
        validate_blocks(value, surface)
        validate_blocks([value], surface)
    validate_view(value)
    text_length(value)
