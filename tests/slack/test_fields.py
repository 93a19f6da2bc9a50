"""Each type of parameter has the field that Slack has for it, filled in, and what was entered is read back."""

import pytest

from bot.runs import params
from bot.runs.form import Declared, Field, declared, entered
from bot.runs.params import Param
from bot.slack.inbox import state
from bot.slack.views import fields

MANY = [f"web-{n}" for n in range(140)]


def element(param: Param, value=None, **more) -> dict:
    return fields.field(Field("p", param, value, **more))["element"]


@pytest.mark.parametrize(
    ("param", "kind"),
    [
        (Param(), "plain_text_input"),
        (Param(type="choice", choices=["a", "b"]), "radio_buttons"),
        (Param(type="choice", choices=["a", "b"], required=False), "static_select"),
        (Param(type="choice", choices=list("abcdef")), "static_select"),
        (Param(type="choice", choices=MANY), "external_select"),
        (Param(type="choice", choices=["a" * 200]), "plain_text_input"),
        (Param(type="choice"), "plain_text_input"),
        (Param(type="secret", choices=["DB_PASSWORD", "DB_PASSWORD_OLD"]), "radio_buttons"),
        (Param(type="user"), "users_select"),
        (Param(type="bool"), "checkboxes"),
        (Param(type="int"), "number_input"),
        (Param(type="number"), "number_input"),
        (Param(type="duration"), "plain_text_input"),
        (Param(type="list"), "plain_text_input"),
    ],
)
def test_each_type_has_its_field(param, kind):
    assert element(param)["type"] == kind


def test_a_field_starts_with_what_the_alert_says_and_with_nothing_that_is_no_choice():
    choice = Param(type="choice", choices=["a", "b"])
    assert element(choice, "b")["initial_option"]["value"] == "b"
    assert "initial_option" not in element(choice, "c")
    assert element(Param(type="choice", choices=MANY), "web-3")["initial_option"]["value"] == "web-3"
    assert element(Param(type="bool"), True)["initial_options"][0]["value"] == "true"
    assert element(Param(type="user"), "U01BOB")["initial_user"] == "U01BOB"
    assert element(Param(type="number", min=0.001), 0.00001)["initial_value"] == "0.00001"
    assert element(Param(type="list"), ["a", "b"])["initial_value"] == "a, b"
    assert element(Param(type="list"))["multiline"]


def test_choices_that_could_not_be_had_become_a_text_that_says_why_and_what_is_allowed():
    block = fields.field(Field("p", Param(type="choice", pattern="web-[0-9]+"), "web-1", trouble="status 503"))

    assert block["element"]["type"] == "plain_text_input"
    assert block["element"]["initial_value"] == "web-1"
    assert "could not be had (status 503)" in block["hint"]["text"]
    assert "web-[0-9]+" in block["hint"]["text"]


def test_choices_that_were_looked_up_stand_before_those_of_the_file_and_say_how_many_more_there_are():
    block = fields.field(Field("p", Param(type="choice"), None, ["web-1", "web-2"], left_out=3))

    assert [one["value"] for one in block["element"]["options"]] == ["web-1", "web-2"]
    assert "3 more than the 2" in block["hint"]["text"]


def test_a_menu_offers_what_contains_what_is_typed_a_hundred_at_most():
    assert len(fields.options(MANY, "")) == 100
    assert [one["value"] for one in fields.options(MANY, " WEB-13 ")] == ["web-13", *(f"web-13{n}" for n in range(10))]
    assert fields.options(MANY, "nothing") == []


def test_where_slack_cannot_ask_us_a_long_menu_is_a_text_that_names_the_choices():
    block = fields.field(Field("p", Param(type="choice", choices=MANY)), ask=False)

    assert block["element"]["type"] == "plain_text_input"
    assert "web-0, web-1" in block["hint"]["text"]


def test_what_was_entered_is_read_back_and_checked_by_the_runbook():
    made = {
        "tags": Param(type="list"), "host": Param(type="choice", choices=MANY), "who": Param(type="user"),
        "count": Param(type="int"), "sure": Param(type="bool"), "where": Param(type="choice", choices=["a", "b"]),
    }  # fmt: skip
    given = {
        "tags": {"type": "plain_text_input", "value": "a, b\nc\n"},
        "host": {"type": "external_select", "selected_option": {"value": "web-7"}},
        "who": {"type": "users_select", "selected_user": "U01BOB"},
        "count": {"type": "number_input", "value": "3"},
        "sure": {"type": "checkboxes", "selected_options": []},
        "where": {"type": "radio_buttons", "selected_option": {"value": "b"}},
    }
    view = {"state": {"values": {f"param.{name}": {"value": one} for name, one in given.items()}}}
    values = entered(made, {**state(view), "reason": "not a parameter"})

    assert params.check(Declared(made), values) == {
        "tags": ["a", "b", "c"], "host": "web-7", "who": "U01BOB", "count": 3, "sure": False, "where": "b",
    }  # fmt: skip


def test_declarations_go_through_plain_data():
    made = {"minutes": Param(type="int", min=1)}
    assert declared({name: param.model_dump(mode="json") for name, param in made.items()}).params == made
