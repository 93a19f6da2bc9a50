"""Runbooks are read strictly, and whoever wrote one is told all that is wrong, with lines."""

import json
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.kit.shelf import Shelf
from bot.runs import params
from bot.runs.runbook import LintError, Problem, Runbook, lint, load, load_folder, offers

SHELF = Shelf("bot.steps", must_have=("Params", "run", "EFFECT"))
RUNBOOKS = Path(__file__).parents[2] / "runbooks"
HEAD = "version: 1\nid: demo\nname: Demo\nowner: team-platform\n"
NOTE = "steps:\n  - note: done\n"


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return SHELF if SHELF.modules else SHELF.load()


def problems(text: str, shelf: Shelf, name: str = "demo.yaml") -> list[str]:
    try:
        load(text, name, shelf)
    except LintError as error:
        return str(error).splitlines()
    return []


def steps(text: str) -> str:
    return HEAD + "steps:\n" + textwrap.indent(textwrap.dedent(text).strip(), "  ") + "\n"


def test_a_small_runbook_has_what_it_says_and_defaults(shelf):
    runbook = load(HEAD + NOTE, "demo.yaml", shelf)

    assert (runbook.id, runbook.risk, runbook.timeout.total_seconds()) == ("demo", "medium", 900)
    assert runbook.steps[0].type == "note"
    assert runbook.steps[0].action == {"text": "done"}
    assert len(runbook.sha256) == 64


def test_a_runbook_survives_the_way_through_json(shelf):
    for file in sorted(RUNBOOKS.glob("*.yaml")):
        runbook = load(file.read_text(), file.name, shelf)

        assert Runbook.from_json(json.loads(json.dumps(runbook.as_json()))) == runbook


def test_the_hash_is_that_of_the_text(shelf):
    assert load(HEAD + NOTE, "demo.yaml", shelf).sha256 != load(HEAD + NOTE + "# more\n", "demo.yaml", shelf).sha256


def test_the_runbooks_that_come_along_are_good(shelf):
    good, bad = load_folder(RUNBOOKS, shelf)

    assert bad == []
    assert {"high-error-rate", "disk-full"} <= {runbook.id for runbook in good}


def test_every_problem_of_a_file_is_told_with_its_line(shelf):
    text = HEAD.replace("owner:", "ownr:") + "risk: extreme\nsteps:\n  - exce: {argv: [df]}\n"

    told = problems(text, shelf)

    assert [line.split(": ")[0] for line in told] == [
        "demo.yaml:1",
        "demo.yaml:4",
        "demo.yaml:5",
        "demo.yaml:7",
        "demo.yaml:7",
    ]
    assert "demo.yaml:4: unknown key 'ownr'; did you mean 'owner'?" in told
    assert "demo.yaml:5: risk must be 'low', 'medium' or 'high'" in told
    assert any("exactly one action" in line and "did you mean 'exec'?" in line for line in told)


@pytest.mark.parametrize(
    ("top", "told"),
    [
        ("tests: [{name: x}]", "expect is missing"),
        ("always: [{note: '{{ steps.x.y }}'}]", "steps.x is not a step before this one"),
        ("on_failure: [{note: x, rollback: [{note: y}]}]", "rollback has no place here"),
        ("on_failure: [{approval: {prompt: x}}]", "people are asked only among the steps themselves"),
        ("offer: [{match: {services: [a]}, max_per_hour: 0}]", "greater than or equal to 1"),
        ("risk: high", "a runbook of high risk says who may run it"),
        ("concurrency: {limit: 0}", "greater than or equal to 1"),
        ("offer: [{match: {}}]", "would be offered on every alert"),
        ("offer: [{match: {labels: ['alertname']}}]", "is not a matcher"),
        ("offer: [{match: {labels: ['a=~\"(a+)+\"']}}]", "very long"),
        ("secrets: [SLACK_BOT_TOKEN]", "belongs to the bot"),
        ("env: [DATABASE_URL]", "belongs to the bot"),
        ("env: [MY_SIGNING_KEY]", "belongs to the bot"),
        ("secrets: ['A B']", "is not a name"),
        ("params: {key: {type: secret, choices: [LB_TOKEN, slack_bot_token]}}", "belongs to the bot"),
        ("params: {Host: {}}", "is not a name"),
        ("params: {a: {type: choice}}", "a choice needs choices"),
        ("params: {a: {type: choice, choices: [x], default: y}}", "the default must be one of x"),
        ("params: {a: {type: int, min: 3, default: 2}}", "the default must be at least 3"),
        ("params: {a: {type: int, min: 3, max: 2}}", "min 3 is above max 2"),
        ("params: {a: {type: int, pattern: x}}", "pattern does nothing for type int"),
        ("params: {a: {pattern: '(a+)+'}}", "very long"),
        ("params: {a: {pattern: '[a'}}", "not a regular expression"),
        ("params: {a: {source: params.b}}", "only alert and incident"),
        ("params: {a: {source: '{{ alert.labels.x }}'}}", "write the expression bare"),
        ("params: {a: {type: secret, default: x}}", "a secret needs choices"),
        ("params: {a: {type: secret, choices: [A], default: x}}", "must be the name of a secret"),
        ("params: {a: {type: choice, choices_from: {exec: {argv: [ls]}, value: lines}}}", "a step that only reads"),
        (
            "params: {a: {type: choice, choices_from: {http: {url: 'https://a.example'}, value: jsn}}}",
            "jsn is not known",
        ),
        ("params: {a: {choices_from: {http: {url: 'https://a.example'}, value: json}}}", "only for choice"),
        ("vars: {a: '{{ alert.labels.x }}'}", "text from outside"),
        ("vars: {a: x, b: '{{ vars.a }}'}", "vars.a is not declared"),
        ("concurrency: {key: '{{ alert.labels.x }}'}", "text from outside"),
        ("outputs: {a: steps.nope.x}", "steps.nope is not a step before this one"),
        ("timeout: soon", "is not a duration"),
        ("timeout: 999999999d", "longer than 7d"),
        ("enabled: 'yes'", "enabled must be true or false"),
        ("sha256: abc", "unknown key 'sha256'"),
        ("timeuot: 5m", "did you mean 'timeout'?"),
        ("params: {a: {tpye: int}}", "did you mean 'type'?"),
        ("tags: [a, a: 1]", "must be text"),
    ],
)
def test_a_mistake_at_the_top_is_told(top, told, shelf):
    found = problems(HEAD + top + "\n" + NOTE, shelf)

    assert any(told in line and line.startswith("demo.yaml:5: ") for line in found), found


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("exec: {argv: df -h}", "argv: must be a list"),
        ("exec: {argv: '{{ params.line }}'}", "argv: must be a list"),
        ("exec: {argv: ['{{ params.host }}']}", "the program itself must be written out"),
        ("exec: {argv: []}", "argv must not be empty"),
        ("exec: {argv: [df], hots: web-1}", "unknown key 'hots'; did you mean 'host'?"),
        ("exec: {argv: [df], parse: xml}", "parse must be"),
        ("exec: {argv: [df], env: {LD_PRELOAD: x}}", "LD_PRELOAD cannot be set"),
        ("exec: {argv: [echo, '{{ secrets.TOKEN }}']}", "secrets go only into env, stdin or headers"),
        ("exec: {argv: [echo, '{{ params.key }}']}", "params.key is a secret"),
        ("exec: {argv: [echo], env: {A: '{{ secrets.OTHER }}'}}", "secrets.OTHER is not listed"),
        ("exec: {argv: [echo, '{{ alert.labels.x }}']}", "text from outside"),
        ("exec: {argv: [echo, '{{ incident.title }}']}", "text from outside"),
        ("exec: {argv: [echo, '{{ params.hots }}']}", "params.hots is not declared; did you mean host?"),
        ("exec: {argv: [echo, '{{ params[params.host] }}']}", "params cannot be used as a whole"),
        ("exec: {argv: [echo, '{{ steps.later.stdout }}']}", "steps.later is not a step before this one"),
        ("exec: {argv: [echo, '{{ steps.first.stdot }}']}", "steps.first gives no stdot; did you mean stdout?"),
        ("exec: {argv: [echo, '{{ steps.said.text }}']}", "steps.said gives no text"),
        ("exec: {argv: [echo, '{{ steps.said }}']}", "cannot be used as a whole"),
        ("exec: {argv: [echo, '{{ steps }}']}", "steps cannot be used as a whole"),
        ("exec: {argv: [echo, '{{ nope }}']}", "nope is not known"),
        ("exec: {argv: [echo, '{% if 1 %}x{% endif %}']}", "only {{ … }} is allowed"),
        ("exec: {argv: [echo, '{{ params.host | center(9) }}']}", "there is no filter 'center'"),
        ("http: {url: ftp://example.com}", "must begin with http"),
        ("http: {url: '{{ params.host }}/x'}", "must begin with http"),
        ("http: {url: 'https://example.com/{{ alert.labels.x }}'}", "text from outside"),
        ("http: {url: 'https://example.com/?t={{ secrets.TOKEN }}'}", "secrets go only into"),
        ("http: {url: https://example.com, json: 1, form: {a: b}}", "cannot both be sent"),
        ("http: {url: https://example.com, headers: {Host: x}}", "the header Host cannot be set"),
        ("http: {url: https://example.com, expect: '{{ status == 200 }}'}", "write the expression bare"),
        ("http: {url: https://example.com, expect: satus == 200}", "satus is not known; did you mean status?"),
        ("wait: {until: params.host}", "until and check belong together"),
        ("wait: {}", "say how long"),
        ("wait: {for: soon}", "is not a duration"),
        ("wait: 5s", "wait must be keys with values"),
        ("assert: {that: '{{ params.host }}', message: x}", "write the expression bare"),
        ("assert: {that: params.host}", "message is missing"),
        ("note: {text: x, kind: poem}", "kind must be"),
        ("note: '{{ secrets.TOKEN }}'", "secrets go only into"),
        ("{note: x, when: '{{ params.host }}'}", "write the expression bare"),
        ("{note: x, when: alert.labels.x}", "text from outside"),
        ("{note: x, parallel: 3}", "parallel does nothing without foreach"),
        ("{note: x, foreach: params.nothing}", "params.nothing is not declared"),
        ("{note: '{{ item }}'}", "item is not known"),
        ("{note: x, rollback: [{note: y, rollback: [{note: z}]}]}", "rollback has no place here"),
        ("{exec: {argv: [ls]}, dry_run: {exec: {argv: [ls]}}}", "what a dry run does instead must only read"),
        ("{exec: {argv: [rm]}, effect: destructive}", "this step destroys something, so people are asked first"),
        ("{approval: {prompt: x}, foreach: '[1]'}", "people are asked only among the steps themselves"),
        ("{approval: {prompt: x}, retry: 2}", "approval is not tried again"),
        ("{sql: {connection: pg, query: delete from x, write: true}, effect: read}", "this step writes"),
        ("{note: x, retry: {when: statsu}}", "statsu is not known"),
        ("{note: x, retry: 50}", "retry must be less than or equal to 20"),
        ("{note: x, id: first}", "two steps have the id 'first'"),
        ("{note: x, id: 9x}", "is not a name"),
        ("{note: x, key: y}", "unknown key 'key'"),
        ("{note: x, outputs: {a: nope}}", "nope is not known"),
        ("{exec: {argv: [touch, x]}, dry_run: run}", "a dry run must not run"),
        ("{note: x, exec: {argv: [df]}}", "exactly one action"),
        ("{name: x}", "found none"),
        ("just text", "must be keys with values"),
        ("{note: x, whne: y}", "did you mean 'when'?"),
    ],
)
def test_a_mistake_in_a_step_is_told(step, told, shelf):
    text = (
        HEAD
        + "secrets: [TOKEN]\n"
        + "params: {host: {}, key: {type: secret, choices: [A_KEY]}, line: {}, list: {type: list}}\nsteps:\n"
        + "  - {id: first, exec: {argv: [df]}}\n  - {id: said, note: '{{ alert.labels.x }}'}\n"
        + f"  - {step}\n"
    )

    found = problems(text, shelf)

    assert any(told in line and line.startswith("demo.yaml:10: ") for line in found), found
    assert len(found) <= 2


def test_what_is_right_is_not_complained_about(shelf):
    text = HEAD + textwrap.dedent(
        """
        secrets: [TOKEN]
        env: [REGION]
        params:
          host: {source: 'alert.labels.instance | host'}
          key: {type: secret, choices: [A_KEY, ANOTHER_KEY]}
          hosts: {type: list, default: [a, b]}
          pause: {type: duration, default: 5s}
        vars: {base: 'https://{{ params.host }}:8080'}
        concurrency: {key: 'x:{{ params.host }}'}
        offer: [{match: {labels: ['a=~"b|c"', 'd!="e"'], services: [checkout]}}]
        steps:
          - id: a
            name: On {{ params.host }}
            when: params.host != "x"
            exec:
              argv: [df, -d, 2, '{{ params.host }}', '{{ run.id }}']
              env: {T: '{{ secrets.TOKEN }}', R: '{{ env.REGION }}'}
              stdin: '{{ params.key }}'
            effect: read
            dry_run: run
            retry: {attempts: 2, delay: 1s}
            timeout: 1m30s
            outputs: {n: lines | length, code: exit_code}
          - http:
              method: POST
              url: 'https://{{ params.host }}/x'
              headers: {Authorization: 'Bearer {{ secrets.TOKEN }}'}
              json: {n: '{{ steps.a.n }}'}
              expect: status == 200 and json.ok and params.host
            retry: 3
          - wait: {for: '{{ params.pause }}'}
          - assert: {that: [steps.a.n > 1, steps.a.stdout], message: 'Look at {{ alert.annotations.summary }}'}
          - id: each
            foreach: params.hosts
            parallel: 2
            exec: {argv: [restart, '{{ item }}', '{{ index }}']}
            rollback: [{exec: {argv: [start, '{{ item }}', '{{ failure.step }}']}}]
            on_failure: [{note: '{{ failure.message }}'}]
            dry_run: {exec: {argv: [status, '{{ item }}']}, effect: read}
          - id: ask
            approval: {prompt: 'Delete {{ steps.each.count }}?', inputs: {n: {type: int}}}
          - when: steps.ask.approved
            exec: {argv: [rm, '{{ steps.ask.inputs.n }}']}
            effect: destructive
          - note: 'In {{ incident.title }}'
        on_failure: [{note: '{{ failure.message }} {{ steps.a.n }}'}]
        always: [{note: done}]
        outputs: {n: steps.a.n}
        """
    )

    assert problems(text, shelf) == []


def test_the_id_is_the_name_of_the_file(shelf):
    assert problems(HEAD + NOTE, shelf, "other.yaml") == [
        "other.yaml:2: the id 'demo' must be the file's name, 'other'"
    ]


def test_an_unknown_type_of_step_does_not_bring_further_complaints(shelf):
    text = steps("- {id: q, sql: {query: select 1}, outputs: {n: rows}}\n- note: '{{ steps.q.rows }}'")
    without = Shelf("bot.steps", must_have=())
    without.modules = {name: shelf[name] for name in shelf if name != "sql"}

    assert len(problems(text, without)) == 1


def test_a_step_without_an_id_has_a_key_of_its_own(shelf):
    runbook = load(steps("- note: a\n- {id: b, note: b}\n- note: c"), "demo.yaml", shelf)

    assert [step.key for step in runbook.steps] == ["steps-0", "b", "steps-2"]


def test_broken_yaml_is_one_problem_with_its_line(shelf):
    assert problems("version: 1\nid: [", shelf)[0].startswith("demo.yaml:2: not valid YAML")
    assert problems("version: 1\nversion: 1", shelf) == ["demo.yaml:2: the key 'version' stands here twice"]
    assert problems("- a", shelf) == ["demo.yaml:1: a runbook is a mapping that begins with version: 1"]


def test_one_bad_file_does_not_take_the_others_along(shelf, tmp_path):
    (tmp_path / "demo.yaml").write_text(HEAD + NOTE)
    (tmp_path / "demo.yml").write_text(HEAD + NOTE)
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "notes.txt").write_text("not a runbook")

    good, bad = load_folder(tmp_path, shelf)

    assert [runbook.id for runbook in good] == ["demo"]
    assert [(problem.file, problem.line) for problem in bad] == [("bad.yaml", 1), ("demo.yml", 2)]
    assert lint(tmp_path, shelf) == bad
    assert lint(tmp_path / "bad.yaml", shelf) == [Problem("bad.yaml", 1, "is not UTF-8 text")]
    assert lint(tmp_path / "none.yaml", shelf)[0].message.startswith("cannot be read")
    assert load_folder(tmp_path / "none", shelf) == ([], [])


LABELS = {
    "alertname": "CheckoutErrorRate",
    "service": "checkout",
    "severity": "critical",
    "instance": "web-1.example.com",
}


@pytest.mark.parametrize(
    ("match", "score"),
    [
        ("{labels: ['alertname=\"CheckoutErrorRate\"']}", 1),
        ("{labels: ['alertname=~\"Checkout\"']}", 0),  # a regular expression matches the whole value
        ("{labels: ['alertname=~\"Checkout.*\"', 'team=\"\"']}", 2),  # a label that is missing is empty
        ("{labels: ['alertname!=\"Other\"'], services: [Checkout]}", 2),
        ("{services: [search]}", 0),
        ("{services: [checkout], severities: [critical, warning]}", 2),
        ("{severities: [info]}", 0),
    ],
)
def test_a_runbook_is_offered_where_everything_it_asks_for_holds(match, score, shelf):
    runbook = load(HEAD + f"offer: [{{match: {match}}}]\n" + NOTE, "demo.yaml", shelf)

    assert offers(runbook, LABELS, "checkout", "critical") == score


def test_a_runbook_that_is_switched_off_or_offers_nothing_is_not_offered(shelf):
    off = load(HEAD + "enabled: false\noffer: [{match: {services: [checkout]}}]\n" + NOTE, "demo.yaml", shelf)

    assert offers(off, LABELS, "checkout", None) == 0
    assert offers(load(HEAD + NOTE, "demo.yaml", shelf), LABELS, "checkout", None) == 0


def test_the_sample_alert_gets_a_runbook_whose_form_is_filled(shelf):
    good, _ = load_folder(RUNBOOKS, shelf)

    offered = {runbook.id: runbook for runbook in good if offers(runbook, LABELS, "checkout", "critical")}
    look = offered["high-error-rate"]
    filled = params.prefill(look, {"labels": LABELS}, {})

    assert "disk-full" not in offered
    assert params.check(look, filled)["service"] == "checkout"
    assert any(step.type == "wait" for step in look.steps)


WORDS = st.sampled_from(
    [
        *(
            "version",
            "id",
            "name",
            "owner",
            "steps",
            "exec",
            "argv",
            "note",
            "http",
            "wait",
            "assert",
            "params",
            "offer",
        ),
        *("when", "retry", "rollback", "{{ x", "{{ params.a }}", "demo", "1", "outputs", "dry_run", "match", "labels"),
    ]
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | WORDS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(WORDS, TREES, max_size=8))
def test_any_tree_is_a_runbook_or_a_list_of_problems(tree):
    shelf = SHELF if SHELF.modules else SHELF.load()
    base = {"version": 1, "id": "demo", "name": "x", "owner": "x", "steps": [{"note": "x"}]}

    for text in (json.dumps(tree), json.dumps({**base, **tree}), json.dumps({**base, "steps": [tree]})):
        assert all(line.startswith("demo.yaml:") for line in problems(text, shelf))


@given(st.text(max_size=300))
def test_any_text_is_a_runbook_or_a_list_of_problems(text):
    assert problems(text, SHELF if SHELF.modules else SHELF.load())
