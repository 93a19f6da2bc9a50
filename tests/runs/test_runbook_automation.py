"""What the linter says of runbooks that start by themselves, run by the clock, or raise alerts."""

import textwrap

import pytest

from bot.runs.runbook import load, load_folder
from tests.runs.test_runbook import HEAD, NOTE, SHELF, problems

AUTO = "offer: [{match: {labels: ['alertname=\"Stuck\"']}, mode: auto}]\n"


@pytest.fixture(scope="module")
def shelf():
    return SHELF if SHELF.modules else SHELF.load()


def test_what_starts_by_itself_and_what_runs_by_the_clock_is_read_whole(shelf):
    text = HEAD + textwrap.dedent(
        """
        risk: low
        offer: [{match: {services: [web]}, mode: auto, cooldown: 30m, max_per_hour: 1, quiet_hours: ignore}]
        params: {dir: {default: prod}, service: {required: false, source: alert.labels.service}}
        schedule: {cron: '30 2 * * mon-fri', timezone: Europe/Berlin, params: {dir: stage}, jitter: 5m}
        steps:
          - id: plan
            exec: {argv: [plan, '{{ params.dir }}'], parse: lines}
            effect: read
            outputs: {drifted: lines}
        raises:
          - id: drift
            each: steps.plan.drifted
            key: '{{ params.dir }}'
            title: '{{ item }} is not as it is written'
            description: '{{ steps.plan.drifted | length }} in all'
            severity: high
            labels: {service: '{{ params.dir }}', resource: '{{ item }}'}
          - {id: broken, when: failed, title: 'It failed: {{ failure.message }}', into: timeline}
        """
    )

    assert problems(text, shelf) == []
    runbook = load(text, "demo.yaml", shelf)
    assert (runbook.offer[0].quiet_hours, runbook.schedule.jitter.total_seconds()) == ("ignore", 300)
    assert [(rule.id, rule.into) for rule in runbook.raises] == [("drift", "incident"), ("broken", "timeline")]


def test_a_schedule_may_be_written_as_its_times_alone(shelf):
    assert load(HEAD + "schedule: 0 4 * * *\n" + NOTE, "demo.yaml", shelf).schedule.cron == "0 4 * * *"


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ("0 9 * * 1", "demo.yaml:5: names weekdays by number"),
        ("'@daily'", "demo.yaml:5: write the five fields"),
        ("{cron: 0 0 30 2 *}", "demo.yaml:5: '30' cannot be the day of the month"),
        ("{cron: 0 9 * * *, timezone: Berlin}", "demo.yaml:5: 'Berlin' is not a time zone"),
        (
            "{cron: '0,30 9 * * *', jitter: 30m}",
            "jitter must be shorter than the time between two runs, which is 30 min",
        ),
        ("{cron: 0 9 * * *, catch_up: all}", "catch_up must be 'skip' or 'once'"),
        ("{cron: 0 9 * * *, params: {hots: a}}", "nobody is there to fill in a form: hots is not a parameter"),
        ("{cron: 0 9 * * *, params: {host: 'a b'}}", "nobody is there to fill in a form: host does not fit"),
        ("{corn: 0 9 * * *}", "did you mean 'cron'?"),
        ("{}", "cron"),
    ],
)
def test_a_mistake_in_a_schedule_is_told(schedule, told, shelf):
    found = problems(HEAD + f"schedule: {schedule}\nparams: {{host: {{default: web-1}}}}\n" + NOTE, shelf)

    assert any(told in line for line in found), found
    assert len(found) <= 2


def test_a_schedule_gives_every_parameter_that_a_run_needs(shelf):
    params = "params: {host: {}, path: {source: alert.labels.path}, size: {type: int, default: 3}}\n"

    found = problems(HEAD + "schedule: 0 4 * * *\n" + params + NOTE, shelf)

    assert found == [
        "demo.yaml:5: nobody is there to fill in a form: host is missing",
        "demo.yaml:5: nobody is there to fill in a form: path is missing",
    ]


def test_a_run_by_the_clock_asks_people_by_name(shelf):
    ask = "steps:\n  - approval: {prompt: x}\n"
    told = "demo.yaml:8: a run by the clock has no responders, so name who may approve it (who, or access.approve)"

    assert problems(HEAD + "schedule: 0 4 * * *\n\n" + ask, shelf) == [told]
    assert problems(HEAD + "schedule: 0 4 * * *\n\n" + ask.replace("x}", "x, who: ['@responders']}"), shelf) == [told]
    assert problems(HEAD + "schedule: 0 4 * * *\naccess: {approve: ['@ops']}\n" + ask, shelf) == []
    assert problems(HEAD + ask, shelf) == []


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("offer: [{mode: auto}]\nrisk: low\n", "would be offered on every alert; name labels, services or severities"),
        (AUTO + "risk: medium\n", "auto is not allowed here, only of low risk"),
        (AUTO + "risk: low\n", None),
        ("risk: medium\n", None),
    ],
)
def test_what_changes_something_starts_by_itself_only_if_its_risk_is_low(lines, told, shelf):
    found = problems(HEAD + lines + "steps:\n  - exec: {argv: [restart]}\n", shelf)

    assert [told in line for line in found] == ([True] if told else [])


def test_reads_before_the_first_approval_may_start_by_themselves_whatever_the_risk(shelf):
    steps = "steps:\n  - {exec: {argv: [df]}, effect: read}\n  - approval: {prompt: x}\n  - exec: {argv: [restart]}\n"

    assert problems(HEAD + AUTO + "risk: high\naccess: {run: ['@responders']}\n" + steps, shelf) == []


def test_calling_another_runbook_counts_as_a_change(shelf):
    found = problems(HEAD + AUTO + "steps:\n  - {name: Restart, runbook: {use: other}}\n", shelf)

    assert len(found) == 1
    assert "'Restart' may change something" in found[0]


@pytest.mark.parametrize(("risk", "asked", "good"), [("low", "", 2), ("medium", "", 1), ("medium", "asked", 2)])
def test_what_starts_by_itself_calls_nothing_of_more_risk_before_people_were_asked(risk, asked, good, shelf, tmp_path):
    ask = "  - approval: {prompt: x}\n" if asked else ""
    calling = HEAD + AUTO + "risk: low\nsteps:\n" + ask + "  - runbook: {use: other}\n"
    (tmp_path / "demo.yaml").write_text(calling)
    (tmp_path / "other.yaml").write_text(
        f"version: 1\nid: other\nname: O\nowner: o\nrisk: {risk}\nsteps:\n  - exec: {{argv: [x]}}\n"
    )

    found, told = load_folder(tmp_path, shelf)

    assert len(found) == good
    assert [problem.message.partition(";")[2] for problem in told] == (
        [" 'other' is of medium risk"] if good == 1 else []
    )


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("{title: x}", "say when it fires: when (an expression), or each"),
        ("{when: failed}", "title is missing"),
        ("{when: faild, title: x}", "faild is not known; did you mean failed?"),
        ("{when: steps.plna.exit_code, title: x}", "steps.plna is not a step before this one; did you mean plan?"),
        ("{when: failed, title: '{{ item }}'}", "item is not known"),
        ("{each: steps.plan.lines, when: item, title: x}", "item is not known"),
        ("{when: failed, title: x, key: '{{ alert.labels.host }}'}", "alert.labels.host is not allowed here"),
        ("{when: failed, title: x, labels: {a: '{{ incident.title }}'}}", "incident.title is not allowed here"),
        ("{when: failed, title: '{{ secrets.TOKEN }}'}", "secrets.TOKEN is not allowed here"),
        ("{when: failed, title: x, labels: {a-b: c}}", "'a-b' is not a name"),
        ("{when: failed, title: x, severity: SEV1}", "severity must be 'critical', 'high'"),
        ("{when: failed, title: x, into: ticket}", "into must be 'incident' or 'timeline'"),
        ("{when: failed, title: x, sevirity: low}", "did you mean 'severity'?"),
    ],
)
def test_a_mistake_in_what_a_runbook_raises_is_told(rule, told, shelf):
    text = (
        HEAD
        + "secrets: [TOKEN]\nsteps:\n  - {id: plan, exec: {argv: [plan], parse: lines}}\nraises:\n  - "
        + rule
        + "\n"
    )

    found = problems(text, shelf)

    assert any(told in line and line.startswith("demo.yaml:9: ") for line in found), found
    assert len(found) <= 2


def test_two_rules_of_one_name_would_be_one_alert(shelf):
    text = HEAD + NOTE + "raises:\n  - {when: failed, title: a}\n  - {when: failed, title: b}\n"

    assert problems(text, shelf) == [
        "demo.yaml:7: two of these have the same id; it is part of the identity of their alerts"
    ]
