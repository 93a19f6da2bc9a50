"""The tests of a runbook are played by the real interpreter, over mocks, and in no time."""

import json
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.kit.shelf import Shelf
from bot.runs.rehearsal import Verdict, rehearse, scenes
from bot.runs.runbook import LintError, Problem, lint, load
from tests.runs.conftest import Plugin

HEAD = "version: 1\nid: demo\nname: Demo\nowner: team-platform\n"
# An instance is taken out of rotation, restarted, looked at and put back.
RESTART = HEAD + textwrap.dedent(
    """
    risk: high
    access: {run: ['@responders']}
    timeout: 4h
    params:
      host: {source: 'alert.labels.instance | host'}
    steps:
      - id: before
        probe: {text: 'before {{ params.host }}'}
        outputs: {rate: seen.rate}
      - id: drain
        act: {text: 'drain {{ params.host }}'}
        rollback:
          - {id: refill, act: {text: 'refill {{ params.host }}'}}
      - wait: {for: 20m}
      - id: ask
        when: steps.before.rate > 1
        approval: {prompt: 'Restart at {{ steps.before.rate }}?', expires: 2h, count: 2}
      - id: restart
        act: {text: restart}
        rollback:
          - act: {text: 'back to {{ steps.before.seen }}'}
      - id: healthy
        probe: {text: look}
        retry: {attempts: 12, delay: 5s}
        outputs: {fine: seen == 'fine'}
      - assert: {that: steps.healthy.fine, message: 'It is {{ steps.healthy.seen }}.'}
      - note: 'Restarted {{ params.host }} at {{ steps.before.rate }}'
    on_failure:
      - {id: told, note: 'It failed: {{ failure.message }}'}
    outputs: {rate: steps.before.rate}
    """
)


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    made = Shelf("bot.steps", must_have=("Params", "run", "EFFECT")).load()
    made.modules["probe"] = Plugin(AssertionError("the world was asked"))  # type: ignore[assignment]
    made.modules["act"] = Plugin(AssertionError("the world was changed"), effect="write")  # type: ignore[assignment]
    return made


@pytest.fixture
def play(tmp_path: Path, shelf: Shelf):
    """Play the tests in a runbook; *others* lie beside it."""

    def _play(book: str, tests: str, **others: str) -> list[Verdict]:
        file = tmp_path / "demo.yaml"
        file.write_text(book + "tests:\n" + textwrap.indent(textwrap.dedent(tests).strip(), "  ") + "\n")
        for name, text in others.items():
            (tmp_path / f"{name}.yaml").write_text(textwrap.dedent(text))
        _, found, wrong = scenes(file, shelf)
        assert wrong == []
        return [rehearse(scene, shelf) for scene in found]

    return _play


def reasons(verdict: Verdict) -> list[str]:
    return [reason.message for reason in verdict.reasons]


def test_everything_that_is_expected_comes(play):
    (verdict,) = play(
        RESTART,
        """
        - name: rolls back when the health check never passes
          params: {host: web-1.example.com}
          mock:
            before: {rate: 3}
            healthy: {fail: status 503}
          expect:
            state: rolled_back
            ran: [before, drain, ask, restart, healthy, told]
            skipped: []
            rolled_back: [restart, drain]
            failed: healthy
            message: '503'
            outputs: {rate: 3}
        """,
    )

    assert reasons(verdict) == []
    assert verdict.ok
    assert (verdict.runbook, verdict.test) == ("demo", "rolls back when the health check never passes")


def test_what_comes_otherwise_is_told_with_the_line_that_expected_it(play):
    (verdict,) = play(
        RESTART,
        """
        - name: nothing as expected
          params: {host: web-1.example.com}
          mock:
            before: {rate: 0}
            healthy: {seen: fine}
          expect:
            state: rolled_back
            ran: [before]
            skipped: []
            rolled_back: [drain]
            failed: drain
            message: boom
            outputs: {rate: 3}
        """,
    )

    lines = dict.fromkeys(reason.line for reason in verdict.reasons)
    text = (HEAD + "x").count("\n")
    assert [reason.message for reason in sorted(verdict.reasons, key=lambda reason: reason.line)] == [
        "state: expected rolled_back, came succeeded",
        "ran: expected [before], came [before, drain, restart, healthy]",
        "skipped: expected [], came [ask]",
        "rolled_back: expected [drain], came []",
        "failed: expected drain, but nothing failed",
        "message: expected 'boom', but nothing failed",
        "outputs: rate: expected 3, came 0",
    ]
    assert len(lines) == 7
    assert all(reason.file == "demo.yaml" and reason.line > text for reason in verdict.reasons)
    assert "succeeded" in verdict.story


def test_what_is_said_of_assets_is_compared_and_is_no_alert(play):
    book = RESTART + "reports:\n  - {asset: '{{ params.host }}', kind: restart, ok: steps.before.rate < 5}\n"
    trial = """
        - name: {name}
          params: {{host: web-1.example.com}}
          mock: {{before: {{rate: {rate}}}, healthy: {{seen: fine}}}}
          expect: {{reported: {expected}, raised: []}}
        """
    verdicts = [
        play(book, trial.format(name=name, rate=rate, expected=expected))[0]
        for name, rate, expected in (
            ("good", 0, "{web-1.example.com: ok}"),
            ("bad", 9, "{web-1.example.com: bad}"),
            ("not as expected", 9, "{web-1.example.com: ok}"),
        )
    ]

    assert [reasons(verdict) for verdict in verdicts] == [
        [],
        [],
        ["reported: expected [web-1.example.com: ok], came [web-1.example.com: bad]"],
    ]


def test_hours_of_waits_and_retries_take_no_time(play):
    begun = time.monotonic()

    (verdict,) = play(
        RESTART,
        """
        - name: nobody answers for two hours
          params: {host: a}
          mock: {before: {rate: 3}, ask: {expired: true}}
          expect: {state: expired, failed: ask, message: nobody answered, rolled_back: [drain]}
        """,
    )

    assert reasons(verdict) == []
    assert time.monotonic() - begun < 20


def test_a_run_that_would_take_too_long_is_timed_out(play):
    (verdict,) = play(
        RESTART.replace("timeout: 4h", "timeout: 10m"),
        "- {name: slow, params: {host: a}, expect: {state: rolled_back, message: 'took longer than its 10 min'}}",
    )

    assert reasons(verdict) == []


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("{}", "succeeded"),
        ("{approved: true, by: [UANN, UBOB], reason: fine}", "succeeded"),
        ("{approved: false, reason: not now}", "rejected"),
        ("{fail: not now}", "rejected"),
        ("{expired: true}", "expired"),
    ],
)
def test_people_answer_as_the_mock_says_and_yes_by_default(play, answer, state):
    (verdict,) = play(
        RESTART,
        f"""
        - name: asked
          params: {{host: a}}
          mock: {{before: {{rate: 3}}, healthy: {{seen: fine}}, ask: {answer}}}
          expect: {{state: {state}}}
        """,
    )

    assert reasons(verdict) == []


def test_what_an_answer_fills_in_is_given_to_later_steps_and_checked(play):
    book = HEAD + textwrap.dedent(
        """
        steps:
          - id: ask
            approval: {prompt: 'How many?', inputs: {count: {type: int, max: 5}}}
        outputs: {count: steps.ask.inputs.count, by: steps.ask.by, why: steps.ask.reason}
        """
    )

    good, bad = play(
        book,
        """
        - name: three
          mock: {ask: {by: UANN, reason: enough, inputs: {count: '3'}}}
          expect: {state: succeeded, outputs: {count: 3, by: UANN, why: enough}}
        - name: nine
          mock: {ask: {inputs: {count: 9}}}
          expect: {state: succeeded}
        """,
    )

    assert reasons(good) == []
    assert "count must be at most 5" in reasons(bad)[0]


def test_attempts_take_the_mocks_of_a_list_one_by_one_and_then_the_last_again(play):
    third, never = play(
        RESTART,
        """
        - name: fine at the third attempt
          params: {host: a}
          mock: {before: {rate: 0}, healthy: [{fail: a}, {fail: b}, {seen: fine}]}
          expect: {state: succeeded}
        - name: never
          params: {host: a}
          mock: {before: {rate: 0}, healthy: [{fail: a}, {fail: b}]}
          expect: {state: rolled_back, message: b}
        """,
    )

    assert [reasons(third), reasons(never)] == [[], []]
    assert any("healthy (3 attempts)" in line for line in third.story)
    assert any("healthy (12 attempts)" in line for line in never.story)


def test_outputs_and_assertions_are_computed_from_a_mock(play):
    good, bad, given_ = play(
        RESTART,
        """
        - name: from the result
          params: {host: a}
          mock: {before: {seen: {rate: 0.5}}, healthy: {seen: fine}}
          expect: {state: succeeded, outputs: {rate: 0.5}}
        - name: not so
          params: {host: a}
          mock: {before: {seen: {rate: 0.5}}, healthy: {seen: ill}}
          expect: {state: rolled_back, message: It is ill.}
        - name: the output itself
          params: {host: a}
          mock: {before: {rate: 0.5}, healthy: {fine: false}}
          expect: {state: rolled_back, message: 'It is ‹steps.healthy.seen›.'}
        """,
    )

    assert [reasons(good), reasons(bad), reasons(given_)] == [[], [], []]


@pytest.mark.parametrize(
    ("mock", "told"),
    [
        ("{}", "mock `before`: its output rate is used, which needs seen"),
        ("{before: {rate: 0}}", "mock `healthy`: its output fine is used, which needs seen"),
        ("{before: {rate: 0}, healthy: {}}", "mock `healthy`: its output fine is used, which needs seen"),
    ],
)
@pytest.mark.parametrize("state", ["succeeded", "rolled_back", "failed"])
def test_what_is_decided_by_an_unknown_value_fails_the_test_whatever_was_expected(play, mock, told, state):
    (verdict,) = play(RESTART, f"- {{name: x, params: {{host: a}}, mock: {mock}, expect: {{state: {state}}}}}")

    assert reasons(verdict) == [told]


def test_text_that_quotes_an_unknown_value_is_marked_and_nothing_else(play):
    book = HEAD + "steps:\n  - {id: a, probe: {}}\n  - {id: said, note: 'It is {{ steps.a.seen }}'}\n"

    (verdict,) = play(book, "- {name: x, expect: {state: succeeded, ran: [a, said]}}")

    assert verdict.ok
    assert "✓ said: It is ‹steps.a.seen›" in verdict.story


def test_an_expectation_of_an_unknown_output_says_what_to_mock(play):
    book = HEAD + "steps:\n  - {id: a, probe: {}}\noutputs: {n: steps.a.seen}\n"

    (verdict,) = play(book, "- {name: x, expect: {outputs: {n: 1}}}")

    assert reasons(verdict) == ["outputs: n could not be computed; mock `a`"]


def test_parameters_come_from_the_alert_and_from_the_test(play):
    book = HEAD + textwrap.dedent(
        """
        params: {host: {source: 'alert.labels.instance | host'}, n: {type: int, default: 2}}
        steps: [{note: '{{ alert.annotations.summary }} in {{ incident.title }}'}, {id: a, probe: {}}]
        outputs: {host: params.host, n: params.n, since: params.since}
        """
    ).replace("default: 2}", "default: 2}, since: {source: alert.starts_at, pattern: '.*', required: false}")

    (verdict,) = play(
        book,
        """
        - name: filled
          alert:
            title: It burns
            starts_at: '2026-03-01T12:00:00Z'
            labels: {instance: 'web-1:9100'}
            annotations: {summary: Smoke}
          params: {n: 3}
          expect: {outputs: {host: web-1, n: 3, since: '2026-03-01T12:00:00Z'}}
        """,
    )

    assert verdict.ok
    assert "✓ note: Smoke in It burns" in verdict.story


def test_a_dry_run_previews_what_writes(play):
    (verdict,) = play(
        RESTART,
        """
        - name: dry
          dry_run: true
          params: {host: a}
          mock: {before: {rate: 0}, healthy: {seen: fine}}
          expect: {state: dry_run, ran: [before, healthy], skipped: [ask]}
        """,
    )

    assert [reason for reason in reasons(verdict) if "ran" not in reason] == []
    assert "… drain: would say drain a" in verdict.story


def test_many_of_one_step_are_one_and_each_takes_a_mock(play):
    book = HEAD + textwrap.dedent(
        """
        params: {hosts: {type: list, default: [a, b, c]}}
        steps:
          - id: look
            foreach: params.hosts
            probe: {text: '{{ item }}'}
            continue_on_error: true
            stop_on_error: false
        outputs: {bad: steps.look.failed, all: "steps.look['items'] | map(attribute='seen') | list"}
        """
    )

    good, bad = play(
        book,
        """
        - name: all
          mock: {look: [{seen: 1}, {seen: 2}, {seen: 3}]}
          expect: {state: succeeded, ran: [look], outputs: {bad: 0, all: [1, 2, 3]}}
        - name: one fails
          params: {hosts: [a, b]}
          mock: {look: [{fail: no}, {fail: no}, {fail: no}, {seen: 1}]}
          expect: {state: succeeded, ran: [look], outputs: {bad: 1}}
        """,
    )

    assert [reasons(good), reasons(bad)] == [[], []]


def test_a_runbook_that_is_called_is_carried_out_and_its_steps_can_be_mocked(play):
    other = """\
        version: 1
        id: other
        name: Other
        owner: team
        params: {n: {type: int}}
        steps:
          - {id: look, probe: {text: 'n {{ params.n }}'}, outputs: {m: seen + 1}}
          - {id: change, act: {}, rollback: [{act: {}}]}
        outputs: {m: steps.look.m}
        """
    book = HEAD + textwrap.dedent(
        """
        steps:
          - {id: call, runbook: {use: other, params: {n: 3}}}
          - {id: after, act: {text: 'm {{ steps.call.m }}'}}
        outputs: {m: steps.call.m}
        """
    )

    inside, whole, back = play(
        book,
        """
        - name: its steps
          mock: {call/look: {seen: 1}}
          expect: {state: succeeded, ran: [call, call/look, call/change, after], outputs: {m: 2}}
        - name: as a whole
          mock: {call: {m: 7}}
          expect: {state: succeeded, ran: [call, after], outputs: {m: 7}}
        - name: taken back
          mock: {call/look: {seen: 1}, after: {fail: boom}}
          expect: {state: rolled_back, rolled_back: [call/change], failed: after}
        """,
        other=other,
    )

    assert [reasons(inside), reasons(whole), reasons(back)] == [[], [], []]


def test_a_step_that_never_came_to_an_attempt_can_be_the_one_that_failed(play):
    book = HEAD + "steps:\n  - {id: a, probe: {}}\n  - {id: b, when: steps.a.seen.x > 1, act: {}}\n"

    (verdict,) = play(book, "- {name: x, mock: {a: {seen: {y: 1}}}, expect: {state: failed, failed: b, message: when}}")

    assert reasons(verdict) == []


def test_secrets_are_not_needed(play):
    book = HEAD + textwrap.dedent(
        """
        secrets: [TOKEN]
        params: {which: {type: secret, choices: [KEY_A, KEY_B]}}
        steps: [{id: a, http: {url: https://example.com, headers: {T: '{{ secrets.TOKEN }}{{ params.which }}'}}}]
        """
    )

    (verdict,) = play(book, "- {name: x, params: {which: KEY_A}, mock: {a: {status: 200}}, expect: {state: succeeded}}")

    assert reasons(verdict) == []


def test_an_expectation_of_the_step_itself_is_judged_by_the_mock(play):
    book = HEAD + "steps: [{id: a, http: {url: https://example.com, expect: json.n > 1}}]\n"

    good, bad, unknown = play(
        book,
        """
        - {name: more, mock: {a: {json: {n: 2}}}, expect: {state: succeeded}}
        - {name: less, mock: {a: {json: {n: 1}}}, expect: {state: failed, message: expected json.n > 1}}
        - {name: what, mock: {a: {status: 200}}, expect: {state: succeeded}}
        """,
    )

    assert [reasons(good), reasons(bad)] == [[], []]
    assert reasons(unknown) == ["mock `a`: it gives no json, which is used"]


def test_what_is_waited_for_is_mocked_look_by_look(play):
    book = HEAD + textwrap.dedent(
        """
        timeout: 2h
        steps:
          - id: calm
            wait:
              until: seen.lag < 5 and params.most
              every: 1m
              for: 1h
              check: {id: lag, probe: {}}
        params: {most: {type: int, default: 3}}
        outputs: {checks: steps.calm.checks, waited: steps.calm.waited}
        """
    )

    third, never, bare, half = play(
        book,
        """
        - name: so at the third look
          mock: {lag: [{seen: {lag: 90}}, {fail: no answer}, {seen: {lag: 1}}]}
          expect: {state: succeeded, outputs: {checks: 3, waited: 120}}
        - {name: never, mock: {lag: {seen: {lag: 90}}}, expect: {state: failed, failed: calm, message: still not so}}
        - {name: not mocked, expect: {state: succeeded}}
        - {name: half mocked, mock: {lag: {}}, expect: {state: failed}}
        """,
    )

    assert [reasons(third), reasons(never)] == [[], []]
    assert reasons(bare) == ["mock `lag`: it is looked at until something is so, and nothing is known of it"]
    assert reasons(half) == ["mock `lag`: it gives no seen, which is used"]


def test_what_a_step_type_takes_for_a_failure_is_one_in_a_mock(play):
    book = HEAD + textwrap.dedent(
        """
        steps:
          - {id: ask, http: {url: https://example.com}}
          - {id: look, exec: {argv: [grep, x, y], ok_codes: [0, 1]}, effect: read}
        """
    )

    good, status, code, stopped = play(
        book,
        """
        - {name: good, mock: {ask: {status: 204}, look: {exit_code: 1}}, expect: {state: succeeded}}
        - {name: status, mock: {ask: {status: 404}}, expect: {failed: ask, message: → 404}}
        - {name: code, mock: {look: {exit_code: 2}}, expect: {failed: look, message: ended with exit code 2}}
        - {name: stopped, mock: {look: {timed_out: true}}, expect: {failed: look, message: was stopped}}
        """,
    )

    assert [reasons(one) for one in (good, status, code, stopped)] == [[], [], [], []]


# -- what the linter says of tests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "told"),
    [
        ("{name: x, expect: {state: suceeded}}", "'suceeded' is no end of a run; did you mean succeeded?"),
        ("{name: x, expect: {state: running}}", "'running' is no end of a run"),
        ("{name: x, expect: {ran: [bfore]}}", "ran: there is no step with the id 'bfore'; did you mean before?"),
        ("{name: x, expect: {skipped: [nope]}}", "skipped: there is no step with the id 'nope'"),
        ("{name: x, expect: {rolled_back: [before]}}", "rolled_back: before does not say how it is taken back"),
        ("{name: x, expect: {failed: nope}}", "failed: there is no step with the id 'nope'"),
        ("{name: x, expect: {outputs: {rat: 1}}}", "outputs: the runbook gives no rat; did you mean rate?"),
        ("{name: x, expect: {}}", "expects nothing"),
        ("{name: x, expect: {stat: failed}}", "unknown key 'stat'; did you mean 'state'?"),
        ("{name: x}", "expect is missing"),
        ("{name: x, mock: {bfore: {}}, expect: {state: failed}}", "no step with the id 'bfore'; did you mean before?"),
        ("{name: x, mock: {before: 3}, expect: {state: failed}}", "a mock is what the step gives"),
        ("{name: x, mock: {before: []}, expect: {state: failed}}", "a mock must not be empty"),
        ("{name: x, mock: {before: [{}, 3]}, expect: {state: failed}}", "a mock is what the step gives"),
        ("{name: x, mock: {before: {sen: 1}}, expect: {state: failed}}", "probe gives no sen; did you mean seen?"),
        ("{name: x, mock: {before: {fail: 3}}, expect: {state: failed}}", "fail must be text"),
        ("{name: x, mock: {ask: {aproved: true}}, expect: {state: failed}}", "did you mean 'approved'?"),
        ("{name: x, mock: {ask: {inputs: 3}}, expect: {state: failed}}", "inputs must be keys with values"),
        ("{name: x, mock: {ask: {by: [3]}}, expect: {state: failed}}", "must be text"),
        ("{name: x, mock: {before/x: {}}, expect: {state: failed}}", "before calls no other runbook"),
        ("{name: x, params: {hots: a}, expect: {state: failed}}", "params: hots is not a parameter of this runbook"),
        ("{name: x, params: {host: '-a'}, expect: {state: failed}}", "params: host does not fit"),
        ("{name: x, expect: {state: failed}}", "params: host is missing"),
        ("{name: x, alert: {lables: {}}, expect: {state: failed}}", "unknown key 'lables'; did you mean 'labels'?"),
        ("{name: x, alert: {labels: {a: 1}}, expect: {state: failed}}", "must be text"),
        ("{name: x, alert: {starts_at: soon}, expect: {state: failed}}", "'soon' is not a time"),
        ("{name: '', expect: {state: failed}}", "name"),
        ("{name: x, expcet: {state: failed}}", "unknown key 'expcet'; did you mean 'expect'?"),
    ],
)
def test_a_mistake_in_a_test_is_told_with_its_line(shelf, test, told):
    with pytest.raises(LintError) as caught:
        load(RESTART + f"tests:\n  - {test}\n", "demo.yaml", shelf)

    last = RESTART.count("\n") + 2
    assert any(told in problem.message and problem.line == last for problem in caught.value.problems), str(caught.value)


def test_two_tests_have_two_names(shelf):
    test = "  - {name: x, params: {host: a}, expect: {state: failed}}\n"

    with pytest.raises(LintError, match="two tests are called 'x'"):
        load(RESTART + "tests:\n" + test * 2, "demo.yaml", shelf)


CALLED = (
    "version: 1\nid: other\nname: Other\nowner: x\n"
    "params: {n: {type: int}}\nsteps: [{id: a, note: x}]\noutputs: {m: params.n}\n"
)


@pytest.mark.parametrize(
    ("steps", "tests", "told"),
    [
        ("[{runbook: {use: othr}}]", "[]", "demo.yaml:5: calls the runbook 'othr'"),
        ("[{runbook: {use: other}}]", "[]", "demo.yaml:5: the runbook other needs the parameter n"),
        ("[{runbook: {use: other, params: {n: x}}}]", "[]", "other is called with n, which must be a whole number"),
        ("[{runbook: {use: other, params: {n: 1, k: 1}}}]", "[]", "other is called with k, which is not a parameter"),
        (
            "[{id: c, runbook: {use: other, params: {n: 1}}}, {note: '{{ steps.c.mm }}'}]",
            "[]",
            "the runbook other gives no mm; did you mean m?; its outputs: m",
        ),
        (
            "[{id: c, runbook: {use: other, params: {n: 1}}}]",
            "[{name: x, mock: {c/aa: {}}, expect: {state: failed}}]",
            "the runbook other has no step 'aa'; did you mean a?",
        ),
    ],
)
def test_what_does_not_fit_a_runbook_that_is_called_is_told_with_its_line(shelf, tmp_path, steps, tests, told):
    (tmp_path / "demo.yaml").write_text(HEAD + f"steps: {steps}\ntests: {tests}\n")
    (tmp_path / "other.yaml").write_text(CALLED)

    whole, alone = lint(tmp_path, shelf), lint(tmp_path / "demo.yaml", shelf)

    assert any(told in str(problem) for problem in whole), whole
    assert alone == whole


def test_what_fits_a_runbook_that_is_called_is_not_complained_about(shelf, tmp_path):
    (tmp_path / "demo.yaml").write_text(
        HEAD + "params: {n: {type: int, default: 1}}\nsteps:\n"
        "  - {id: c, runbook: {use: other, params: {n: '{{ params.n }}'}}}\n"
        "  - {note: '{{ steps.c.m }} {{ steps.c.ok }}'}\n"
    )
    (tmp_path / "other.yaml").write_text(CALLED)

    assert lint(tmp_path, shelf) == []
    assert lint(tmp_path / "demo.yaml", shelf) == []


def test_a_runbook_that_is_switched_off_is_not_called(shelf, tmp_path):
    (tmp_path / "demo.yaml").write_text(HEAD + "steps: [{runbook: {use: other, params: {n: 1}}}]\n")
    (tmp_path / "other.yaml").write_text(CALLED + "enabled: false\n")

    assert [problem.message for problem in lint(tmp_path, shelf)] == [
        "the runbook other is switched off (enabled: false)"
    ]


# -- whatever stands there --------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        *("name", "params", "alert", "labels", "dry_run", "mock", "expect", "state", "ran", "skipped", "rolled_back"),
        *(
            "failed",
            "message",
            "outputs",
            "before",
            "drain",
            "ask",
            "healthy",
            "fail",
            "seen",
            "rate",
            "approved",
            "by",
        ),
        *("inputs", "expired", "succeeded", "failed", "host", "web-1", "a/b", "fine", "{{ x }}"),
    ]
)
TREES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | WORDS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=20,
)
ANSWERS = st.dictionaries(
    st.sampled_from(["seen", "rate", "fine", "fail", "approved", "by", "inputs", "reason"]), TREES
)
MOCKS = st.dictionaries(
    st.sampled_from(["before", "drain", "ask", "restart", "healthy", "told", "refill"]),
    ANSWERS | st.lists(ANSWERS, max_size=3) | TREES,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(TREES | st.lists(st.dictionaries(WORDS, TREES, max_size=6), max_size=3))
def test_any_tree_of_tests_is_read_or_a_list_of_problems(tree):
    found = problems(RESTART + "tests: " + json.dumps(tree) + "\n")

    assert all(problem.file == "demo.yaml" and problem.line for problem in found)


@settings(max_examples=40, deadline=None)
@given(MOCKS, st.booleans())
def test_whatever_is_mocked_a_test_comes_to_a_verdict(tmp_path_factory, mocks, dry_run):
    shelf = _shelf()
    trial = {"name": "x", "params": {"host": "a"}, "dry_run": dry_run, "mock": mocks, "expect": {"state": "succeeded"}}
    file = tmp_path_factory.mktemp("books") / "demo.yaml"
    file.write_text(RESTART + "tests: " + json.dumps([trial]) + "\n")

    _, found, wrong = scenes(file, shelf)

    assert wrong or rehearse(found[0], shelf).story


def problems(text: str) -> list[Problem]:
    try:
        load(text, "demo.yaml", _shelf())
    except LintError as error:
        return error.problems
    return []


_SHELVES: list[Shelf] = []


def _shelf() -> Shelf:
    if not _SHELVES:
        made = Shelf("bot.steps", must_have=("Params", "run", "EFFECT")).load()
        made.modules["probe"] = Plugin()  # type: ignore[assignment]
        made.modules["act"] = Plugin(effect="write")  # type: ignore[assignment]
        _SHELVES.append(made)
    return _SHELVES[0]
