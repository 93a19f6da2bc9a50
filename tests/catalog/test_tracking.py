"""What trackers.yaml may say, and how it is told what is wrong."""

import pytest

from bot.catalog import tracking
from bot.catalog.config import ConfigError
from bot.catalog.tracking import Rule
from tests.trackers.conftest import SHELF

KINDS = {name: SHELF[name].Options for name in SHELF}
GOOD = """version: 1
trackers:
  ops:
    kind: jira
    url: https://example.atlassian.net
    username: bot@example.com
    token: {env: JIRA_TOKEN}
    webhook: {file: jira.hook}
    status:
      out: {resolved: Done}
      back: {Done: resolved}
    truth: {resolution: both}
    options:
      project: OPS
  desk:
    kind: servicenow
    url: https://example.service-now.com
    username: tocsin
    token: {env: SNOW}
tickets:
  - tracker: ops
    severity: [SEV1]
  - {tracker: desk, service: [checkout]}
followups: {tracker: ops}
"""


def load(folder, text, environment=None):
    (folder / "trackers.yaml").write_text(text)
    return tracking.load(folder, environment or {"JIRA_TOKEN": "j" * 24, "SNOW": "s" * 24}, KINDS)


async def test_a_whole_file_is_read_and_its_secrets_are_looked_up_when_they_are_needed(tmp_path):
    found = load(tmp_path, GOOD)

    assert found.file.tickets == (Rule(tracker="ops", severity=("SEV1",)), Rule(tracker="desk", service=("checkout",)))
    assert found.accesses["ops"].options.project == "OPS"
    assert (await found.accesses["ops"].open()).headers["Authorization"].startswith("Basic ")
    (tmp_path / "jira.hook").write_text("first\n")
    first = await found.accesses["ops"].signs()
    (tmp_path / "jira.hook").write_text("second\n")
    assert (first, await found.accesses["ops"].signs()) == (["first"], ["second"])


def test_no_file_means_no_tracker(tmp_path):
    assert tracking.load(tmp_path, {}, KINDS).accesses == {}


@pytest.mark.parametrize(
    ("old", "new", "line", "word"),
    [
        ("kind: jira", "kind: jria", 4, "no tracker of kind 'jria'; there is: "),
        ("project: OPS", "project: ops", 14, "project"),
        ("project: OPS", "projekt: OPS", 14, "did you mean 'project'"),
        ("https://example.atlassian.net", "http://example.atlassian.net", 5, "url"),
        ("https://example.atlassian.net", "https://user:word@example.atlassian.net", 5, "url"),
        ("token: {env: JIRA_TOKEN}", "token: abcdef", 7, "never written here"),
        ("resolved: Done}", "over: Done}", 10, "out"),
        ("resolution: both", "resolution: everybody", 12, "resolution"),
        ("severity: [SEV1]", "severity: [P1]", 22, "'P1' is no severity"),
        ("  - tracker: ops", "  - tracker: opps", 21, "no tracker 'opps'; did you mean ops?"),
        ("followups: {tracker: ops}", "followups: {tracker: nobody}", 24, "no tracker 'nobody'; there is: ops, desk"),
    ],
    ids=range(11),
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, old, new, line, word):
    assert old in GOOD
    with pytest.raises(ConfigError) as told:
        load(tmp_path, GOOD.replace(old, new, 1))

    assert any(str(one).startswith(f"trackers.yaml:{line}: ") and word in str(one) for one in told.value.problems), str(
        told.value
    )
    assert "word@" not in str(told.value)
    assert "abcdef" not in str(told.value)


def test_missing_secrets_and_a_tracker_that_cannot_be_heard_are_odd(tmp_path):
    found = load(tmp_path, GOOD, {"SNOW": ""}).oddities()

    assert found == [
        "trackers.yaml: tracker 'ops': the environment variable JIRA_TOKEN is not set",
        f"trackers.yaml: tracker 'ops': there is no file {tmp_path / 'jira.hook'} (file)",
        "trackers.yaml: tracker 'desk': the environment variable SNOW is not set",
        "trackers.yaml: tracker 'desk': it has no webhook, so what people do there is not heard of",
    ]
