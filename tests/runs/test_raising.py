"""What a run that has ended says of the world, rule by rule."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.kit.errors import UserError
from bot.runs.model import RunState
from bot.runs.raising import Finding, dedup_key, findings, results, scope, together
from bot.runs.redact import MASK, Redactor
from bot.runs.runbook import load
from tests.runs.test_runbook import HEAD, SHELF

STEPS = "params: {stack: {default: prod}}\nsteps:\n  - {id: plan, exec: {argv: [plan], parse: json}, effect: read}\n"
DONE = {"json": {"drifted": ["a", "b"], "count": 2}, "ok": True}


@pytest.fixture(scope="module", autouse=True)
def shelf():
    return SHELF if SHELF.modules else SHELF.load()


def said(rule: str, state: RunState = RunState.SUCCEEDED, plan=DONE, failure=None, plain=str) -> list[Finding]:
    book = load(HEAD + STEPS + f"raises:\n  - {rule}\n", "demo.yaml", SHELF)
    steps = {} if plan is None else {"plan": plan}
    return findings(book, {"params": {"stack": "prod"}, "steps": steps}, state, failure, plain)


def titles(rule: str, **given) -> list[str] | None:
    """The alerts that fire; None if the rule says nothing."""
    found = said(rule, **given)
    return [one.title for one in found[0].firing] if found and found[0].problem is None else None


def test_a_rule_fires_while_it_holds_and_says_so_when_it_does_not():
    rule = "{when: steps.plan.json.count > 1, title: 'Drift in {{ params.stack }}', key: '{{ params.stack }}'}"

    (found,) = said(rule)
    assert (found.key, found.firing[0].title, found.firing[0].item) == ("prod", "Drift in prod", "")
    assert titles(rule, plan={"json": {"count": 1}}) == []


def test_a_list_gives_an_alert_for_each_and_the_same_one_once():
    rule = "{each: steps.plan.json.drifted, title: '{{ item }} drifted', labels: {what: '{{ item }}'}}"

    (found,) = said(rule, plan={"json": {"drifted": ["b", "a", "b", 7]}})
    assert [(one.item, one.title, one.labels) for one in found.firing] == [
        ("b", "b drifted", {"what": "b"}),
        ("a", "a drifted", {"what": "a"}),
        ("7", "7 drifted", {"what": "7"}),
    ]
    assert titles(rule, plan={"json": {"drifted": []}}) == []


def test_with_both_the_list_counts_only_while_it_holds():
    rule = "{when: steps.plan.json.count > 1, each: steps.plan.json.drifted, title: '{{ item }}'}"

    assert titles(rule) == ["a", "b"]
    assert titles(rule, plan={"json": {"drifted": ["a"], "count": 1}}) == []


@pytest.mark.parametrize("rule", ["{when: steps.plan.json, title: x}", "{each: steps.plan.json, title: x}"])
def test_what_a_step_that_was_not_needed_would_have_given_says_nothing(rule):
    assert said(rule, plan={"json": None}) == []


@pytest.mark.parametrize("state", [RunState.DRY_RUN, RunState.CANCELLED])
def test_a_run_that_looked_at_nothing_says_nothing(state):
    assert said("{when: failed, title: x}", state=state) == []


@pytest.mark.parametrize(
    ("state", "fires"),
    [
        (RunState.SUCCEEDED, False),
        (RunState.FAILED, True),
        (RunState.TIMED_OUT, True),
        (RunState.ROLLED_BACK, True),
        (RunState.ROLLBACK_FAILED, True),
        (RunState.REJECTED, False),
        (RunState.EXPIRED, False),
    ],
)
def test_a_run_that_failed_can_be_an_alert(state, fires):
    rule = "{when: failed, title: 'At {{ failure.step }}: {{ failure.message }}'}"
    failure = {"step": "plan", "message": "no disk"} if fires else None

    assert titles(rule, state=state, failure=failure) == (["At plan: no disk"] if fires else [])


def test_a_rule_about_a_step_that_did_not_run_cannot_be_computed_and_says_why():
    (found,) = said("{when: steps.plan.json.count, title: x}", state=RunState.FAILED, plan=None)

    assert found.firing == []
    assert "plan" in found.problem


@pytest.mark.parametrize("wrong", ["text", 3, [1, [2]], [{"a": 1}], ["a", None], {"a": 1}])
def test_a_list_that_is_none_raises_nothing(wrong):
    (found,) = said("{each: steps.plan.json, title: x}", plan={"json": wrong})

    assert (found.firing, found.problem) == ([], "each: must be a list of texts")


def test_a_hundred_alerts_are_enough():
    assert len(titles("{each: steps.plan.json, title: x}", plan={"json": list(range(100))})) == 100
    (found,) = said("{each: steps.plan.json, title: x}", plan={"json": list(range(101))})
    assert found.problem == "each: gives 101 texts; 100 alerts at most are raised by one rule"


def test_secrets_and_what_hides_in_text_stay_out():
    plain = Redactor(["hunter2222"]).text
    (found,) = said(
        "{each: steps.plan.json, title: '{{ item }}', description: '{{ item }}', labels: {a: '{{ item }}'}}",
        plan={"json": ["hunter2222", "a\u202eb\x00c\nd"]},
        plain=plain,
    )

    assert found.firing[0].title == found.firing[0].item == found.firing[0].labels["a"] == MASK
    assert (found.firing[1].title, found.firing[1].item) == ("abc d", "abc d")


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), min_size=2, max_size=2, unique=True))
def test_different_things_never_share_an_identity(pairs):
    made = [(Finding(rule="r", key=key, into="incident", severity="low"), item) for key, item in pairs]
    one, two = (dedup_key("book", finding, item) for finding, item in made)

    assert one != two
    assert one.startswith(scope("book", made[0][0]))
    if made[0][0].key != made[1][0].key:
        assert not one.startswith(scope("book", made[1][0]))


# What is said of assets --------------------------------------------------------------------------------------------


def reported(rule: str, state: RunState = RunState.SUCCEEDED, plan=DONE, failure=None, plain=str) -> dict | str:
    """What is said of each asset, or why nothing is."""
    book = load(HEAD + STEPS + f"reports:\n  - {rule}\n", "demo.yaml", SHELF)
    steps = {} if plan is None else {"plan": plan}
    (found,) = findings(book, {"params": {"stack": "prod"}, "steps": steps}, state, failure, plain)
    assert found.into == "asset"
    return found.problem or results(found)


def test_a_word_on_an_asset_is_whether_the_run_succeeded_or_what_the_rule_says():
    assert reported("{asset: db, kind: backup}") == {"db": (True, "")}
    assert reported("{asset: db, kind: backup}", RunState.FAILED) == {"db": (False, "")}
    many = "steps.plan.json.count"
    rule = f"{{asset: '{{{{ params.stack }}}}', kind: drift, ok: {many} == 0, text: '{{{{ {many} }}}}'}}"
    assert reported(rule) == {"prod": (False, "2")}
    each = "{asset: '{{ item }}', kind: drift, each: steps.plan.json.drifted, ok: item == 'a', text: '{{ item }}!'}"
    assert reported(each) == {"a": (True, "a!"), "b": (False, "b!")}


def test_where_nobody_can_tell_it_is_not_known_for_the_reason_of_the_failure():
    rule = "{asset: db, kind: backup, ok: steps.plan.json.count == 0}"

    assert reported(rule, RunState.FAILED, None, {"message": "no route to host"}) == {"db": (None, "no route to host")}
    known, text = reported(rule, plan=None)["db"]
    assert (known, "plan" in text) == (None, True)
    assert reported("{asset: db, kind: backup, ok: none}") == {"db": (None, "")}


def test_an_asset_without_a_name_and_a_list_that_is_none_say_nothing():
    assert reported("{asset: '{{ \"\" }}', kind: backup}") == {}
    assert reported("{asset: '{{ item }}', kind: drift, each: none}") == {}
    assert "must be a list" in reported("{asset: '{{ item }}', kind: drift, each: steps.plan.json}")


def test_a_secret_is_taken_out_of_what_is_said_of_an_asset():
    redact = Redactor(["hunter2hunter2"])
    failure = {"message": "login hunter2hunter2 refused"}
    rule = "{asset: db, kind: backup, text: '{{ failure.message }}'}"

    assert reported(rule, RunState.FAILED, failure=failure, plain=redact.text) == {
        "db": (False, f"login {MASK} refused")
    }


def test_an_alert_and_a_word_of_one_name_stay_apart():
    book = load(
        HEAD + STEPS + "raises: [{id: backup, when: failed, title: x}]\nreports: [{asset: db, kind: backup}]\n",
        "demo.yaml", SHELF,
    )  # fmt: skip
    found = together(findings(book, {"params": {"stack": "p"}, "steps": {}}, RunState.FAILED, None))

    assert [(one.into, len(one.firing)) for one in found] == [("incident", 1), ("asset", 1)]


@pytest.mark.parametrize("state", [RunState.DRY_RUN, RunState.CANCELLED])
def test_a_run_that_looked_at_nothing_says_nothing_of_assets(state):
    book = load(HEAD + STEPS + "reports: [{asset: db, kind: backup}]\n", "demo.yaml", SHELF)

    assert findings(book, {"params": {"stack": "p"}, "steps": {}}, state, None) == []


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("{asset: db}", "kind"),
        ("{asset: db, kind: Backup!}", "'Backup!' is not a name"),
        ("{asset: '', kind: backup}", "asset"),
        ("{asset: db, kind: backup, ok: steps.pln.json}", "pln"),
        ("{asset: db, kind: backup, text: '{{ item }}'}", "item"),
        ("{asset: db, kind: backup, oks: true}", "did you mean 'ok'?"),
    ],
)
def test_a_report_that_cannot_be_meant_is_found_by_the_linter(rule, told):
    with pytest.raises(UserError, match=told.replace("?", r"\?")):
        load(HEAD + STEPS + f"reports:\n  - {rule}\n", "demo.yaml", SHELF)
