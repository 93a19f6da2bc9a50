"""The library holds together: every runbook is fit, tested, and described as it is."""

import re
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import ValidationError

from bot.kit.shelf import Shelf
from bot.runs.rehearsal import Scene, rehearse, scenes
from bot.runs.runbook import Runbook, Step, Written

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "runbook-library.md"
SHELF = Shelf("bot.steps", must_have=("Params", "run", "EFFECT")).load()
WRITTEN, SCENES, PROBLEMS = scenes(ROOT / "runbooks", SHELF)
BOOKS = {one.runbook.id: one for one in WRITTEN}
# They tell people something; what a runbook works on is not changed by them.
TELLS = ("note", "slack", "pagerduty", "assert", "approval", "wait")


def called(scene: Scene) -> str:
    return f"{scene.written.runbook.id}: {scene.trial.name}"


@pytest.fixture(params=sorted(BOOKS))
def written(request: pytest.FixtureRequest) -> Written:
    return BOOKS[request.param]


@pytest.fixture
def book(written: Written) -> Runbook:
    return written.runbook


def steps(book: Runbook) -> list[Step]:
    """Every step that may change something, those below others too."""
    found = [*book.steps, *book.on_failure, *book.always]
    for step in list(found):
        found += [*(step.on_failure or ()), *(step.rollback or ())]
    return [step for step in found if step.type not in TELLS]


def effect(step: Step) -> str:
    """What the file says that it does, as the linter reads it."""
    module: ModuleType = SHELF[step.type]
    if step.effect is not None and not getattr(module, "EXACT", False):
        return step.effect
    told = getattr(module, "effect", None)
    try:
        known = told(module.Params.model_validate(step.action)) if told else module.EFFECT
    except ValidationError:
        known = module.EFFECT
    return step.effect or known


def row(book: Runbook) -> dict[str, str]:
    """What the page says of it."""
    return table()[book.id]


def table() -> dict[str, dict[str, str]]:
    whole = re.search(r"^\| Runbook \|.*?\n\n", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert whole
    head, _, *rows = re.findall(r"^\|(.+)\|$", whole[0], re.MULTILINE)
    names = [name.strip() for name in head.split("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in rows]
    return {line[0].strip("`"): dict(zip(names, line, strict=True)) for line in cells}


@pytest.mark.parametrize("scene", SCENES, ids=called)
def test_a_trial_of_the_library_comes_out_as_it_says(scene):
    verdict = rehearse(scene, SHELF)

    assert verdict.ok, "\n".join([*map(str, verdict.reasons), *verdict.story])


def test_the_whole_folder_is_fit_to_run():
    assert [str(problem) for problem in PROBLEMS] == []
    assert set(BOOKS) == {file.stem for file in (ROOT / "runbooks").glob("*.yaml")}
    assert len(BOOKS) >= 18


def test_every_runbook_is_tried_out_where_it_goes_well_and_where_it_does_not(book):
    ends = [trial.expect.state for trial in book.tests]

    assert "succeeded" in ends
    assert set(ends) & {"failed", "rolled_back", "rejected", "expired"}
    assert len(book.tests) >= 2


def test_what_can_be_taken_back_is_taken_back_in_a_trial(book):
    wanted = {step.id for step in book.steps if step.rollback}
    tried = {name for trial in book.tests for name in trial.expect.rolled_back or ()}

    assert wanted <= tried


def test_a_step_that_may_be_skipped_is_skipped_in_a_trial_and_carried_out_in_another(book):
    wanted = {step.id for step in book.steps if step.when and step.id}
    ran = {name for trial in book.tests for name in trial.expect.ran or ()}
    skipped = {name for trial in book.tests for name in trial.expect.skipped or ()}
    skipped |= {name for trial in book.tests if trial.expect.ran is not None for name in wanted - {*trial.expect.ran}}

    assert wanted <= ran
    assert wanted <= skipped


def test_whoever_is_asked_says_no_in_a_trial_and_nothing_is_changed(book):
    asks = [step.id for step in book.steps if step.type == "approval"]
    noes = [trial for trial in book.tests if trial.expect.state == "rejected"]

    assert bool(asks) == bool(noes)
    changing = {step.id for step in book.steps if step.type not in TELLS and effect(step) != "read"}
    assert all(not changing & set(trial.expect.ran or ()) for trial in noes)


def test_what_destroys_something_comes_after_a_question(book):
    asked = False
    for step in book.steps:
        asked = asked or step.type == "approval"
        assert asked or effect(step) != "destructive"


def test_what_starts_by_itself_only_reads_unless_it_is_of_low_risk(book):
    if book.schedule is not None:
        assert book.risk == "low"
        assert not any(step.type == "approval" for step in book.steps)
    for offer in book.offer:
        if offer.mode == "auto":
            before = book.steps[: [step.type for step in [*book.steps, Step(key="", type="approval", action={})]]
                                .index("approval")]  # fmt: skip
            assert all(effect(step) == "read" for step in before if step.type not in TELLS)


def test_it_says_for_whom_it_is_and_what_its_values_mean(book):
    assert re.fullmatch(r"team-[a-z]+", book.owner)
    assert len(book.description) > 40
    assert book.offer
    assert all(param.help for param in book.params.values())


def test_it_names_nobody_and_no_place_that_is_not_an_example(written):
    text = (ROOT / "runbooks" / f"{written.runbook.id}.yaml").read_text()
    hosts = re.findall(r"\b(?:[a-z0-9-]+\.)+(?:com|net|org|io|dev|internal|local)\b", text)

    assert [host for host in hosts if not host.endswith(("example.com", "deployment.kubernetes.io"))] == []


# -- the page --------------------------------------------------------------------------------------------------------


def test_the_page_has_a_row_for_every_runbook_and_no_other():
    assert list(table()) == sorted(BOOKS)


def test_the_page_tells_the_risk_as_the_file_does(book):
    assert row(book)["Risk"] == book.risk


def test_the_page_says_nothing_is_changed_only_of_what_only_reads(book):
    changes = [step.title for step in steps(book) if effect(step) != "read"]

    assert (row(book)["Changes"] == "nothing") == (not changes), changes


def test_the_page_says_who_is_asked_and_what_starts_by_itself(book):
    told = row(book)["Starts"]

    assert ("asks" in row(book)["Changes"]) == any(step.type == "approval" for step in book.steps)
    assert ("auto" in told) == any(offer.mode == "auto" for offer in book.offer)
    assert ("schedule" in told) == (book.schedule is not None)
    assert "button" in told


def test_the_page_names_what_must_stand_in_targets(book):
    needs = row(book)["Needs"]
    connections = {
        str(step.action.get("connection", "prometheus" if step.type == "prometheus" else ""))
        for step in steps(book)
        if step.type in ("http", "sql", "prometheus")
    } - {""}
    connections |= {str(step.action.get("context", "kubernetes")) for step in steps(book) if step.type == "kubectl"}
    for name in connections:
        assert f"`{re.sub(r'[{][{] params[.]([a-z]+) [}][}]', lambda found: found[1].upper(), name)}`" in needs
    assert ("host" in needs) == any(step.action.get("host") for step in steps(book) if step.type == "exec")
    for name in book.secrets:
        assert f"`{name}`" in needs
    for step in steps(book):
        if step.type == "script":
            assert (ROOT / "runbooks" / "scripts" / step.action["file"]).is_file()


def test_no_script_lies_there_that_no_runbook_uses():
    used = {step.action["file"] for one in WRITTEN for step in steps(one.runbook) if step.type == "script"}

    assert used == {file.name for file in (ROOT / "runbooks" / "scripts").iterdir() if file.suffix in (".py", ".sh")}
