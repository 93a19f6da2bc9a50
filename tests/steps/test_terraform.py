"""The terraform step: what it takes, and what it reads from what the program prints."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bot.kit.errors import PermanentError
from bot.runs.redact import MASK
from bot.runs.runbook import load
from bot.runs.step import effect, prepare
from bot.steps import terraform as step

LOCKED = """
╷
│ Error: Error acquiring the state lock
│
│ Error message: resource temporarily unavailable
│ Lock Info:
│   ID:        78d10880-3005-9cd9-78e5-12980f8bec76
│   Path:      terraform.tfstate
│   Operation: OperationTypeApply
│   Who:       deployer@build-1.example.com
│   Version:   1.11.4
│   Created:   2026-11-25 08:49:23.621427835 +0000 UTC
│   Info:
│
│
│ Terraform acquires a state lock to protect the state from being written
╵
"""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ACTIONS = st.sampled_from(
    [["no-op"], ["create"], ["read"], ["update"], ["delete"], ["delete", "create"], ["create", "delete"], ["forget"]]
)


def plan(*changes: dict[str, Any], **more: Any) -> str:
    return json.dumps({"format_version": "1.2", "resource_changes": changes, **more})


def change(actions: list[str], before: Any = None, after: Any = None, address: str = "a.b", **more: Any) -> dict:
    return {
        "address": address,
        "mode": "managed",
        "change": {"actions": actions, "before": before, "after": after, **more},
    }


def params(**raw: Any) -> step.Params:
    return step.Params.model_validate({"dir": "infra", **raw})


@given(st.lists(ACTIONS, max_size=8))
def test_what_a_plan_would_do_is_counted_from_its_changes(actions):
    found = step.read(plan(*(change(one) for one in actions)))

    assert found.destroy == sum("delete" in one for one in actions) == len(found.destroyed)
    assert found.add == sum("create" in one for one in actions)
    assert found.change == sum(one == ["update"] for one in actions)
    assert len(found.changes) == sum(one not in (["no-op"], ["read"]) for one in actions)


def test_what_terraform_forgets_is_not_destroyed_and_what_is_left_over_is():
    left = {**change(["delete"]), "deposed": "1a2b3c4d"}

    found = step.read(plan(change(["forget"]), left))

    assert (found.destroy, found.destroyed) == (1, ("a.b",))
    assert [one.action for one in found.changes] == ["forget", "delete"]
    assert found.changes[1].address == "a.b (deposed 1a2b3c4d)"


def test_a_change_shows_what_differs():
    after = {"size": "large", "name": "web", "ports": [80, 443]}

    found = step.read(
        plan(change(["update"], {"size": "small", "name": "web", "ports": [80]}, after, after_unknown={"id": True}))
    )

    assert found.changes[0].attributes == {
        "size": ("small", "large"),
        "ports": ("[80]", "[80, 443]"),
        "id": ("null", "(known after apply)"),
    }
    assert found.listed() == "update a.b (id: null → (known after apply); ports: [80] → [80, 443]; size: small → large)"


def test_drift_of_resources_and_outputs_is_told_apart():
    drift = [change(["update"], {"mode": "0644"}, {"mode": "0777"}, "local_file.x"), change(["no-op"], {}, {})]
    outputs = {"url": {"actions": ["update"], "before": "a", "after": "b"}, "same": {"actions": ["no-op"]}}

    found = step.read(plan(resource_drift=drift, output_changes=outputs))

    assert [(one.address, one.attributes) for one in found.drifted] == [("local_file.x", {"mode": ("0644", "0777")})]
    assert [(one.address, one.attributes) for one in found.outputs] == [("output.url", {"value": ("a", "b")})]
    assert found.summary == "no changes but outputs: output.url"


@pytest.mark.parametrize(
    ("before", "after", "hidden"),
    [
        ({"key": "hunter22"}, {"key": "x"}, {"before_sensitive": {"key": True}, "after_sensitive": {}}),
        ({"key": "x"}, {"key": "hunter22"}, {"before_sensitive": {}, "after_sensitive": {"key": True}}),
        # An old value of something that is sensitive from now on.
        ({"key": "hunter22"}, {"key": "x"}, {"before_sensitive": {}, "after_sensitive": {"key": True}}),
        ({"key": "hunter22"}, None, {"before_sensitive": True}),
        ({"key": {"a": ["x", "hunter22"]}}, {}, {"before_sensitive": {"key": {"a": [False, True]}}}),
        # A shape that does not fit.
        ({"key": ["x", "hunter22"]}, {}, {"before_sensitive": {"key": [True]}}),
        ({"key": "hunter22"}, {}, {"before_sensitive": {"key": {"deep": True}}}),
        ({"key": [{"a": "hunter22"}]}, {}, {"before_sensitive": {"key": True}}),
    ],
)
def test_what_a_plan_calls_sensitive_is_masked_and_known(before, after, hidden):
    found = step.read(plan(change(["update"], before, after, **hidden)))

    assert "hunter22" not in repr(found.changes)
    assert MASK in repr(found.changes)


def test_what_is_sensitive_is_known_wherever_it_stands():
    text = plan(
        change(
            ["update"],
            {"a": {"b": ["s-one"]}},
            {"a": "s-two"},
            before_sensitive={"a": True},
            after_sensitive={"a": True},
        ),
        resource_drift=[change(["update"], "s-three", None, before_sensitive=True)],
        output_changes={"o": {"actions": ["update"], "before": "s-four", "after": 5, "before_sensitive": True}},
        variables={"key": {"value": "s-five"}, "open": {"value": "seen"}},
        configuration={"root_module": {"variables": {"key": {"sensitive": True}, "open": {}}}},
    )

    assert set(step.read(text).secrets) == {"s-one", "s-two", "s-three", "s-four", "s-five"}


@settings(max_examples=150)
@given(value=JSON, hidden=JSON)
def test_what_is_marked_is_masked_whatever_its_shape(value, hidden):
    kept = step._masked(value, hidden)

    if hidden is True and value is not None:
        assert kept == MASK
    if not step._any(hidden):
        assert kept == value
    assert isinstance(json.dumps(kept), str)


@settings(max_examples=150)
@given(
    JSON.map(json.dumps)
    | st.text(max_size=40)
    | st.fixed_dictionaries(
        {"format_version": st.just("1.2")},
        optional={
            "resource_changes": JSON | st.lists(st.fixed_dictionaries({"address": JSON, "change": JSON}), max_size=2),
            "resource_drift": JSON,
            "output_changes": JSON,
            "variables": JSON,
            "configuration": JSON,
        },
    ).map(json.dumps)
)
def test_what_is_no_plan_is_refused_and_nothing_else_happens(text):
    try:
        found = step.read(text)
    except PermanentError:
        return
    assert found.destroy >= 0
    json.dumps(found.values())


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "7", "{}", '{"format_version": "2.0"}', '{"format_version": 1}', "[" * 100_000]
)
def test_a_format_that_is_not_known_is_refused(text):
    with pytest.raises(PermanentError, match="the plan cannot be read"):
        step.read(text)


@pytest.mark.slow
def test_a_huge_plan_gives_bounded_values():
    wide = {f"name{i}": "x" * 5000 for i in range(100)}
    found = step.read(plan(*(change(["create"], None, wide, f"a.b[{i}]") for i in range(1000))))

    assert found.add == 1000
    assert len(json.dumps(found.values())) < 1024**2
    assert len(found.listed().splitlines()) == 200


@pytest.mark.parametrize("text", [LOCKED, LOCKED.replace("│ ", "").replace("│", "").replace("╷", "").replace("╵", "")])
def test_who_holds_a_lock_is_told(text):
    assert step.locked(text) == (
        "deployer@build-1.example.com does apply since 2026-11-25 08:49:23. If that is over, free it with "
        "force-unlock 78d10880-3005-9cd9-78e5-12980f8bec76"
    )
    assert step.wrong(text).startswith("Error acquiring the state lock: Error message: resource temporarily")


def test_a_lock_of_nobody_and_no_lock_are_told_apart():
    assert step.locked("Error: Error acquiring the state lock\n\nfailed to retrieve lock info") == (
        "nobody says by whom; try again later"
    )
    assert step.locked("Error: Invalid reference\n\nWho: me") is None


@given(st.text(max_size=400), st.text(max_size=60), st.text(max_size=60))
def test_any_text_can_be_looked_through(text, before, after):
    for told in (text, f"{before}Error: Error acquiring the state lock\n  Who: {after}", f"{before}\nError: {after}"):
        assert "\n" not in step.wrong(told)
        assert len(step.wrong(told)) <= 400
        assert isinstance(step.locked(told), str | None)
        assert isinstance(step.applied(told), tuple | None)


@given(st.tuples(*[st.integers(0, 10**6)] * 3), st.booleans())
def test_what_was_applied_is_counted(counts, imported):
    more = "1 imported, " if imported else ""

    told = "x\n\nApply complete! Resources: {}{} added, {} changed, {} destroyed.\n".format(more, *counts)

    assert step.applied(told) == counts


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"action": "apply"}, "only a saved plan is applied"),
        ({"plan_from": "plan"}, "plan_from goes with action: apply"),
        ({"action": "apply", "plan_from": "plan", "vars": {"a": 1}}, "targets and vars are in the plan already"),
        ({"action": "apply", "plan_from": "plan", "targets": ["a.b"]}, "targets and vars are in the plan already"),
        ({"vars": {"a b": 1}}, "'a b' cannot be the name of a variable"),
        ({"vars": {"-destroy": 1}}, "cannot be the name of a variable"),
        ({"env": {"TF_CLI_ARGS_plan": "-destroy"}}, "TF_CLI_ARGS_plan cannot be set"),
        ({"env": {"TF_DATA_DIR": "x"}}, "TF_DATA_DIR cannot be set"),
        ({"env": {"TF_WORKSPACE": "x"}}, "TF_WORKSPACE cannot be set"),
        ({"env": {"LD_PRELOAD": "x"}}, "LD_PRELOAD cannot be set"),
        ({"env": {"A-B": "x"}}, "is not a name for an environment variable"),
        ({"workspace": None}, "is empty; leave it out"),
        ({"workspace": ""}, "is empty; leave it out"),
        ({"targets": []}, "is empty; leave it out"),
        ({"workspace": "-or-create"}, "cannot be the name of a workspace"),
        ({"workspace": "a\nb"}, "cannot be the name of a workspace"),
        ({"workspace": "../x"}, "cannot be the name of a workspace"),
        ({"plan_from": "../x", "action": "apply"}, "String should match"),
        ({"max_destroy": -1}, "greater than or equal to 0"),
        ({"max_destroy": True}, "valid integer"),
        ({"binary": "sh"}, "'tofu' or 'terraform'"),
        ({"dir": ""}, "at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(raw, told):
    with pytest.raises(ValidationError, match=told):
        params(**raw)


def test_credentials_of_backends_and_registries_may_be_set():
    names = ("TF_HTTP_PASSWORD", "TF_TOKEN_registry_example_com", "TF_CLI_CONFIG_FILE", "AWS_SECRET_ACCESS_KEY")

    assert set(params(env=dict.fromkeys(names, "x")).env) == set(names)


def test_an_empty_parameter_does_not_widen_a_plan(bench):
    context = bench.context(values={"params": {"only": [], "workspace": None}})

    for key, name in (("targets", "only"), ("workspace", "workspace")):
        with pytest.raises(PermanentError, match=f"{key}: is empty; leave it out if that is meant"):
            prepare(step, {"dir": "infra", key: f"{{{{ params.{name} }}}}"}, context)


@pytest.mark.parametrize(("action", "told"), [("plan", "read"), ("drift", "read"), ("apply", "write")])
def test_only_an_apply_changes_anything(action, told):
    more = {"plan_from": "plan"} if action == "apply" else {}

    assert effect(step, params(action=action, **more)) == told


def test_the_preview_names_the_place_and_no_value():
    found = params(action="drift", workspace="prod", vars={"size": "hunter22"}, targets=["a.b"])

    assert step.preview(found) == "would look for drift of infra with tofu, workspace prod, only a.b, with size"
    assert step.preview(params(action="apply", plan_from="look")) == (
        "would apply the plan of the step look to infra with tofu"
    )


def test_what_it_uses_beside_the_runbooks_can_be_looked_for_beforehand():
    assert step.needs(params()) == [("file", "infra")]
    assert step.needs(params(providers="mirror")) == [("file", "infra"), ("file", "mirror")]
    assert step.needs(params(providers="/usr/share/providers")) == [("file", "infra")]


def test_secrets_go_into_variables_and_the_environment_alone(bench):
    context = bench.context(secrets={"T": "hunter22"})

    found = prepare(step, {"dir": "x", "vars": {"a": "{{ secrets.T }}"}, "env": {"A": "{{ secrets.T }}"}}, context)

    assert (found.vars, found.env) == ({"a": "hunter22"}, {"A": "hunter22"})
    with pytest.raises(PermanentError, match="'secrets' is undefined"):
        prepare(step, {"dir": "x", "targets": ["{{ secrets.T }}"]}, context)


@pytest.mark.parametrize("binary", ["tofu", "terraform"])
def test_a_missing_program_is_named_with_what_to_install(binary):
    hint = step.INSTALL[binary]

    assert hint.startswith("install ")
    with pytest.raises(PermanentError, match=rf"'{binary}-of-nobody' is not installed \(looked in .*\); {hint[:15]}"):
        step.need(f"{binary}-of-nobody", hint)


async def test_nothing_is_looked_for_outside_of_the_folder_of_the_runbooks(run, tmp_path: Path):
    for dir_ in ("..", "/etc", "a/../../x", ".", "a\0b", "x" * 9000):
        with pytest.raises(PermanentError):
            await run(step, {"dir": dir_, "binary": "terraform"}, folder=tmp_path)
    with pytest.raises(PermanentError, match="has no folder"):
        await run(step, {"dir": "infra", "binary": "terraform"})


def test_a_runbook_with_plan_approval_and_apply_is_well_formed(shelf_of_steps):
    text = """
version: 1
id: resize
name: Resize
owner: team
steps:
  - id: plan
    terraform: {dir: infra, vars: {size: large}, max_destroy: 1}
  - id: ask
    approval: "Add {{ steps.plan.add }}, change {{ steps.plan.change }}, destroy {{ steps.plan.destroy }}?"
  - terraform: {dir: infra, action: apply, plan_from: plan, max_destroy: 1}
"""
    book = load(text, "resize.yaml", shelf_of_steps)

    assert [one.type for one in book.steps] == ["terraform", "approval", "terraform"]
