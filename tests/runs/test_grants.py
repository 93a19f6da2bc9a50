"""What runbooks may name of the bot's environment: nothing that the workspace does not list, and never its own keys."""

import pytest

from bot.catalog.config import General
from bot.catalog.targets import Targets
from bot.kit.errors import PermanentError
from bot.runs.grants import Grants
from bot.runs.model import RunState
from bot.runs.runbook import DENIED, read

HEAD = "version: 1\nid: book\nname: Book\nowner: team\n"
STEPS = "steps:\n  - exec: {argv: [env], env: {T: '{{ secrets.LB_TOKEN }}'}}\n"


def test_nothing_may_be_named_unless_it_is_listed():
    none = Grants()
    for check in (none.variable, none.secret):
        with pytest.raises(PermanentError, match="LB_TOKEN is nothing that runbooks may use here"):
            check("LB_TOKEN")


def test_a_name_is_allowed_by_its_glob_each_kind_by_its_own_list():
    some = Grants.of(General(runbook_environment=("REGION",), runbook_secrets=("LB_*",)), Targets())

    some.variable("REGION")
    some.secret("LB_TOKEN")
    for check, name in ((some.variable, "LB_TOKEN"), (some.secret, "REGION"), (some.variable, "REGIONS")):
        with pytest.raises(PermanentError, match="list it under runbook_"):
            check(name)


def test_a_secret_of_targets_is_listed_there_and_is_no_variable():
    some = Grants.of(General(), Targets.model_validate({"secrets": {"LB_TOKEN": {"file": "/run/lb"}}}))

    some.secret("LB_TOKEN")
    with pytest.raises(PermanentError):
        some.variable("LB_TOKEN")


@pytest.mark.parametrize("pattern", DENIED)
def test_what_belongs_to_the_bot_is_granted_by_nothing(pattern):
    every, name = Grants(("*",), ("*",)), pattern.replace("*", "X")
    for check in (every.variable, every.secret):
        for told in (name, name.lower()):
            with pytest.raises(PermanentError, match="belongs to the bot"):
                check(told)


def test_every_name_that_may_not_be_used_is_told_with_its_line(bench):
    text = (
        HEAD + "env: [REGION,\n  ZONE]\nsecrets: [LB_TOKEN]\n"
        "params:\n  key:\n    type: secret\n    choices:\n      - LB_TOKEN\n      - OTHER_KEY\n" + STEPS
    )
    problems = Grants(("REGION",), ("LB_*",)).problems(read(text, "book.yaml", bench.steps))

    assert [str(problem).partition(": say")[0] for problem in problems] == [
        "book.yaml:6: ZONE is nothing that runbooks may use here: list it under runbook_environment in tocsin.yaml",
        "book.yaml:13: OTHER_KEY is nothing that runbooks may use here",
    ]


@pytest.mark.parametrize(
    ("head", "name"),
    [("env: [HOME_ADDRESS]\n", "HOME_ADDRESS"), ("secrets: [OTHER_KEY]\n", "OTHER_KEY")],
    ids=["env", "secrets"],
)
async def test_a_run_that_names_what_is_not_listed_fails_before_its_first_step(bench, head, name):
    bench.environment = {name: "not for runbooks"}
    bench.grants = Grants()
    seen = bench.plugin("look")

    run = await bench.carry_out(await bench.start(head + "steps:\n  - look: {}\n"))

    assert run.state == RunState.FAILED
    assert f"{name} is nothing that runbooks may use here" in run.failure["message"]
    assert seen.calls == 0
    assert "not for runbooks" not in await bench.everything()


async def test_a_secret_that_is_chosen_in_the_form_must_be_listed_too(bench):
    bench.environment = {"OTHER_KEY": "not for runbooks"}
    bench.grants = Grants(secrets=("LB_TOKEN",))
    seen = bench.plugin("look")
    book = "params: {key: {type: secret, choices: [OTHER_KEY]}}\nsteps:\n  - look: {}\n"

    run = await bench.carry_out(await bench.start(book, {"key": "OTHER_KEY"}))

    assert run.state == RunState.FAILED
    assert seen.calls == 0


async def test_a_runbook_that_is_called_gets_no_more_than_the_one_that_calls(bench):
    bench.environment = {"OTHER_KEY": "not for runbooks"}
    bench.grants = Grants()
    seen = bench.plugin("look")
    inner = bench.runbook("secrets: [OTHER_KEY]\nsteps:\n  - look: {}\n")
    run_id = await bench.start(f"steps:\n  - runbook: {{use: {inner.id}}}\n", uses={inner.id: inner})

    run = await bench.carry_out(run_id)

    assert run.state == RunState.FAILED
    assert "OTHER_KEY is nothing that runbooks may use here" in run.failure["message"]
    assert seen.calls == 0
