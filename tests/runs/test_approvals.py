"""Only the yes of enough other people, in time, to exactly what is done, lets a run go on. All else is a no."""

from datetime import timedelta

import pytest

from bot.incidents import roles
from bot.incidents.access import Person
from bot.incidents.model import RoleName, Sev
from bot.kit.clock import utc_now
from bot.kit.errors import UserError
from bot.runs import approval as approvals
from bot.runs import run as runs
from bot.runs.model import ApprovalState, Phase, RunState
from bot.runs.runbook import load
from tests.runs.conftest import ALICE
from tests.runs.test_rollback import parts, seen

__all__ = ["parts"]

BOB = Person("UBOB", "bob", "bob@example.com")
CAROL = Person("UCAROL", "carol", "carol@example.com")
REQUESTER = Person(ALICE, "alice", "alice@example.com")
BOOK = """
params: {host: {default: web-1}}
steps:
  - id: ready
    change: {text: ready}
    rollback: [{change: {text: unready}}]
  - id: ask
    approval: {prompt: 'Delete on {{ params.host }}?', who: [UBOB, UCAROL], expires: 20m%s}
  - name: Delete
    when: steps.ask.approved
    change: {text: 'delete {{ params.host }}'}
    effect: destructive
  - look: {text: '{{ steps.ask.by }}: {{ steps.ask.reason }}'}
"""


class Asked:
    """A run that waits for people, and what they may do."""

    def __init__(self, bench, run_id: str) -> None:
        self.bench, self.run_id = bench, run_id
        self.current = None

    async def question(self):
        async with self.bench.engine.db.read() as session:
            row = [row for row in await runs.attempts(session, self.run_id) if row.type == "approval"][-1]
            return await approvals.of_step(session, row.id)

    async def vote(self, by: Person, yes: bool = True, **more) -> str:
        found = await self.question()
        async with self.bench.engine.transaction() as tx:
            return await approvals.vote(
                tx, self.bench.react, found.id, yes=yes, by=by, now=self.bench.clock(),
                **{"current": found.sha256, **more},
            )  # fmt: skip

    async def go_on(self):
        return await self.bench.carry_out(self.run_id)


@pytest.fixture
def ask(bench, parts):
    async def asked(more: str = "", book: str = BOOK, **start) -> Asked:
        run_id = await bench.start(book % more, email="alice@example.com", **start)
        assert (await bench.carry_out(run_id)).state == RunState.WAITING
        return Asked(bench, run_id)

    return asked


async def test_the_question_says_what_a_yes_would_be_for(bench, ask):
    question = await (await ask()).question()

    assert question.prompt == "Delete on web-1?"
    assert question.plan == ["Delete: would say delete web-1"]
    assert question.who == ["UBOB", "UCAROL"]
    [event] = await bench.events("approval.asked")
    assert event.text == "Run 1: asks" or event.text.startswith("Run 1 asks <@UBOB> or <@UCAROL>: Delete on web-1?")


async def test_after_a_yes_the_run_goes_on_and_knows_who_said_it(bench, parts, ask):
    asked = await ask()

    assert await asked.vote(BOB, reason="looked at it") == "You said yes. Run 1 goes on."
    run = await asked.go_on()

    assert run.state == RunState.SUCCEEDED
    assert seen(parts["change"]) == ["ready", "delete web-1"]
    assert seen(parts["look"]) == ["UBOB: looked at it"]


async def test_one_no_ends_it_and_what_was_changed_is_taken_back(bench, parts, ask):
    asked = await ask(", count: 2")
    await asked.vote(BOB)

    assert "does not go on" in await asked.vote(CAROL, yes=False, reason="wrong host")
    run = await asked.go_on()

    assert run.state == RunState.REJECTED
    assert run.failure == {"step": "ask", "message": "<@UCAROL> said no: wrong host"}
    assert seen(parts["change"]) == ["ready", "unready"]


async def test_so_many_different_people_must_say_yes_as_it_says(bench, parts, ask):
    asked = await ask(", count: 2")

    assert await asked.vote(BOB) == "You said yes; 1 more must."
    assert (await asked.go_on()).state == RunState.WAITING
    with pytest.raises(UserError, match="You said yes already"):
        await asked.vote(BOB)
    with pytest.raises(UserError, match="Somebody with your e-mail address said yes already"):
        await asked.vote(Person("UCAROL", "carol", "Bob@example.com"))
    await asked.vote(CAROL)

    assert (await asked.go_on()).state == RunState.SUCCEEDED


@pytest.mark.parametrize("who", [REQUESTER, Person("UBOB", "bob", "Alice@Example.com")])
async def test_whoever_asked_for_the_run_cannot_say_yes_by_any_account(bench, ask, who):
    asked = await ask()

    with pytest.raises(UserError, match="somebody else must say yes"):
        await asked.vote(who)

    assert (await asked.question()).state == ApprovalState.ASKED


async def test_whoever_asked_for_the_run_may_say_no(bench, ask):
    asked = await ask()
    await asked.vote(REQUESTER, yes=False)

    assert (await asked.go_on()).state == RunState.REJECTED


async def test_whoever_is_not_named_has_no_say(bench, ask):
    asked = await ask()

    for yes in (True, False):
        with pytest.raises(UserError, match=r"Run 1 may be approved by <@UBOB> or <@UCAROL> only\."):
            await asked.vote(Person("UDAN", "dan"), yes=yes)


async def test_a_group_lets_its_members_answer(bench, ask):
    asked = await ask(book=BOOK.replace("[UBOB, UCAROL]", "['@team-data']"))

    with pytest.raises(UserError, match="@team-data"):
        await asked.vote(BOB)
    await asked.vote(BOB, groups=frozenset({"@team-data"}))

    assert (await asked.go_on()).state == RunState.SUCCEEDED


async def test_nobody_in_time_is_a_no(bench, parts, ask):
    asked = await ask()
    bench.clock = lambda: utc_now() + timedelta(minutes=21)

    async with bench.engine.transaction() as tx:
        assert await approvals.expire(tx, bench.react, now=bench.clock()) >= 1
    run = await asked.go_on()

    assert run.state == RunState.EXPIRED
    assert run.failure["message"] == "nobody answered within 20 min, which is a no"
    assert seen(parts["change"]) == ["ready", "unready"]


async def test_a_yes_that_comes_too_late_is_a_no_even_if_nobody_noticed_the_time(bench, parts, ask):
    asked = await ask()
    bench.clock = lambda: utc_now() + timedelta(minutes=21)

    assert (await asked.vote(BOB)).startswith("Too late")
    assert (await asked.go_on()).state == RunState.EXPIRED
    assert "delete web-1" not in seen(parts["change"])


async def test_an_answer_after_the_end_is_refused_with_a_word(bench, ask):
    asked = await ask()
    await asked.vote(BOB)

    with pytest.raises(UserError, match="This question is closed: approved by <@UBOB>"):
        await asked.vote(CAROL)


async def test_a_restart_is_not_a_yes_and_asks_no_second_time(bench, ask):
    asked = await ask()

    for _ in range(3):
        assert (await asked.go_on()).state == RunState.WAITING
        await bench.change(asked.run_id, state=RunState.QUEUED)  # as if a promise had been played again
    assert len(await bench.events("approval.asked")) == 1


@pytest.mark.parametrize("current", [None, "0" * 64])
async def test_a_runbook_that_was_changed_or_removed_makes_the_question_void(bench, parts, ask, current):
    asked = await ask()

    assert "was changed after the question" in await asked.vote(BOB, current=current)
    run = await asked.go_on()

    assert run.state == RunState.EXPIRED
    assert "delete web-1" not in seen(parts["change"])


async def test_a_yes_does_not_hold_when_what_would_be_done_has_changed_since(bench, parts, ask):
    bench.environment = {"REGION": "north"}
    asked = await ask(book="env: [REGION]\n" + BOOK.replace("'delete {{ params.host }}'", "'{{ env.REGION }}'"))
    await asked.vote(BOB)
    bench.environment = {"REGION": "south"}

    run = await asked.go_on()

    assert run.state == RunState.EXPIRED
    assert "has changed since people said yes" in run.failure["message"]
    assert seen(parts["change"]) == ["ready", "unready"]


FOLDERS = {
    "ansible role": ("ansible: {playbook: play/site.yml, limit: all}", "play/roles/web/tasks/main.yml"),
    "ansible role at the top": ("ansible: {playbook: site.yml, limit: all}", "roles/web/tasks/main.yml"),
    "terraform module": ("terraform: {dir: tf/prod, action: apply, plan_from: ask}", "tf/modules/net/main.tf"),
    "kustomize base": ("kubectl: {args: [apply, -k, k8s/overlays/prod]}", "k8s/base/deploy.yaml"),
    "script": ("script: {file: fix.py}", "scripts/fix.py"),
    "rollback": ("script: {file: do.py}\n    rollback: [{script: {file: fix.py}}]", "scripts/fix.py"),
    "runbook": ("runbook: {use: inner}", "scripts/fix.py"),
}


@pytest.mark.parametrize("name", list(FOLDERS))
async def test_a_yes_does_not_hold_when_a_file_of_a_folder_that_a_step_uses_has_changed(bench, ask, tmp_path, name):
    action, file = FOLDERS[name]
    for place in ("site.yml", "play/site.yml", "tf/prod/main.tf", "k8s/overlays/prod/kustomization.yaml", file):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("---\n")
    plain = bench.interpreter

    def interpreter():
        made = plain()
        made._attempts.folder = tmp_path
        return made

    bench.interpreter = interpreter
    book = f"steps:\n  - id: ask\n    approval: {{prompt: Go on, who: [{BOB.id}]%s}}\n  - {action}\n"
    inner = load(
        "version: 1\nid: inner\nname: x\nowner: x\nsteps: [{script: {file: fix.py}}]\n", "inner.yaml", bench.steps
    )
    asked = await ask(book=book, uses={"inner": inner})
    await asked.vote(BOB)
    (tmp_path / file).write_text("- hosts: all\n")

    run = await asked.go_on()

    assert run.state == RunState.EXPIRED
    assert "has changed since people said yes" in run.failure["message"]


async def test_the_time_in_which_people_are_waited_for_is_not_the_run_s(bench, ask):
    asked = await ask(book="timeout: 1m\n" + BOOK)
    bench.clock = lambda: utc_now() + timedelta(minutes=15)
    await asked.vote(BOB)

    assert (await asked.go_on()).state == RunState.SUCCEEDED


async def test_a_reason_is_asked_for_where_the_runbook_wants_one(bench, ask):
    asked = await ask(", require_reason: true")

    with pytest.raises(UserError, match="wants a reason"):
        await asked.vote(BOB, reason="  ")
    await asked.vote(BOB, reason="seen it")


async def test_what_the_answer_fills_in_is_checked_like_a_parameter(bench, parts, ask):
    book = BOOK.replace("'delete {{ params.host }}'", "'delete {{ steps.ask.inputs.n }}'")
    asked = await ask(", inputs: {n: {type: int, max: 5}}", book)

    with pytest.raises(UserError, match="n must be at most 5"):
        await asked.vote(BOB, inputs={"n": 6})
    await asked.vote(BOB, inputs={"n": "5"})
    await asked.go_on()

    assert seen(parts["change"]) == ["ready", "delete 5"]


async def test_a_cancelled_run_waits_for_nobody(bench, ask):
    asked = await ask()
    await bench.cancel(asked.run_id)

    assert (await asked.question()).state == ApprovalState.VOID
    with pytest.raises(UserError, match="closed: the run was cancelled"):
        await asked.vote(BOB)
    assert (await asked.go_on()).state == RunState.CANCELLED


async def test_a_dry_run_asks_nobody(bench, parts):
    run = await bench.carry_out(await bench.start(BOOK % "", dry_run=True))

    assert run.state == RunState.DRY_RUN
    assert await bench.events("approval.") == []
    assert [row.summary for row in await bench.rows(run.id)][1] == (
        "would ask UBOB or UCAROL for up to 20 min: Delete on web-1?"
    )


async def test_only_the_commander_of_a_sev1_may_go_without_and_it_is_written_down(bench, parts):
    asked = runs.Asked(ALICE, break_glass="database is down")
    with pytest.raises(UserError, match="Only the commander of a SEV1"):
        await bench.start(BOOK % "", asked=asked)
    async with bench.engine.transaction() as tx:
        incident = await tx.session.merge(bench.incident)
        incident.severity = Sev.SEV1
        await roles.assign(tx, bench.react, incident, RoleName.COMMANDER, ALICE, by=ALICE, now=utc_now())
        bench.incident = incident

    run = await bench.carry_out(await bench.start(BOOK % "", asked=asked))

    assert run.state == RunState.SUCCEEDED
    assert seen(parts["look"]) == [f"{ALICE}: glass broken: database is down"]
    [event] = await bench.events("run.glass_broken")
    assert "database is down" in event.text


async def test_a_yes_of_which_the_process_dies_before_it_goes_on_still_counts_after_the_restart(bench, parts, ask):
    asked = await ask()
    await asked.vote(BOB)
    run = await bench.run(asked.run_id)
    assert (run.state, run.phase, run.round) == (RunState.QUEUED, Phase.STEPS, 2)

    assert (await asked.go_on()).state == RunState.SUCCEEDED
    assert seen(parts["change"]).count("delete web-1") == 1


async def test_what_is_only_told_may_quote_an_alert_that_goes_on_changing(bench, parts, ask):
    book = BOOK + "  - slack: {text: 'Deleted in {{ incident.severity }}'}\n    continue_on_error: true\n"
    asked = await ask(book=book)
    await asked.vote(BOB)
    async with bench.engine.transaction() as tx:
        (await tx.session.merge(bench.incident)).severity = Sev.SEV1

    assert (await asked.go_on()).state == RunState.SUCCEEDED
