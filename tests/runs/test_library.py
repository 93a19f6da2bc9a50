"""The runbooks that come along are free of faults, and each is shown to work by its own tests."""

from pathlib import Path

import pytest

from bot.app import shelves
from bot.kit import yaml
from bot.runs.outline import outline
from bot.runs.rehearsal import Scene, rehearse, scenes
from bot.runs.runbook import started_with

STEPS = shelves().steps
FOLDER = Path(__file__).parents[2] / "runbooks"
WRITTEN, SCENES, PROBLEMS = scenes(FOLDER, STEPS)


def test_none_has_a_fault():
    assert PROBLEMS == []


@pytest.mark.parametrize("written", WRITTEN, ids=[one.runbook.id for one in WRITTEN])
def test_each_has_tests_among_them_one_that_goes_well(written):
    assert any(trial.expect.state == "succeeded" for trial in written.runbook.tests)


@pytest.mark.parametrize("written", WRITTEN, ids=[one.runbook.id for one in WRITTEN])
def test_each_names_the_schema_for_editors(written):
    text = (FOLDER / written.document.name).read_text()

    assert text.startswith("# yaml-language-server: $schema=../docs/reference/runbook.schema.json\n")


@pytest.mark.parametrize("scene", SCENES, ids=[f"{scene.written.runbook.id}: {scene.trial.name}" for scene in SCENES])
def test_its_tests_are_good(scene: Scene):
    verdict = rehearse(scene, STEPS)

    assert verdict.ok, "\n".join([*map(str, verdict.reasons), *verdict.story])


@pytest.mark.parametrize("scene", SCENES, ids=[f"{scene.written.runbook.id}: {scene.trial.name}" for scene in SCENES])
def test_what_it_would_be_can_be_shown_beforehand(scene: Scene):
    runbook = scene.written.runbook

    made = outline(runbook, started_with(runbook, scene.trial), scene.trial.alert, STEPS)

    assert yaml.load(yaml.dump(made), "made").data == made
    assert len(made["steps"]) == len(runbook.steps)
    assert "{{" not in yaml.dump(made["steps"])
