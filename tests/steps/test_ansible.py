"""The ansible step: what it takes, and what it reads from what the program prints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bot.catalog.targets import Host, Reach, Targets
from bot.kit.errors import PermanentError
from bot.runs.step import effect, prepare
from bot.steps import ansible as step

NAMES = st.text(alphabet="abcxyz019._-[]:é", min_size=1, max_size=40).filter(lambda name: not name.startswith("-"))
COUNT = st.integers(0, 10**6)
TALLIES = st.builds(step.Tally, COUNT, COUNT, COUNT, COUNT)


def drawn(stats: dict[str, step.Tally]) -> str:
    """The recap as Ansible's default callback draws it."""
    rows = [
        f"{name:<26} : ok={one.ok:<4} changed={one.changed:<4} unreachable={one.unreachable:<4} failed={one.failed:<4} "
        "skipped=0    rescued=0    ignored=0   "
        for name, one in stats.items()
    ]
    return "\n".join(["PLAY RECAP " + "*" * 69, *rows, ""])


def params(**raw) -> step.Params:
    return step.Params.model_validate({"playbook": "site.yml", "inventory": "hosts.ini", **raw})


@given(st.dictionaries(NAMES, TALLIES, max_size=6), st.text(max_size=200))
def test_a_recap_is_read_as_it_is_drawn_whatever_stands_before(stats, before):
    assert step.recap(f"{before}\n\n{drawn(stats)}\n") == stats


@given(st.dictionaries(NAMES, TALLIES, min_size=1, max_size=3))
def test_only_the_last_recap_counts_and_only_at_the_beginning_of_a_line(stats):
    false = {"evil": step.Tally(1, 9, 0, 0)}
    inside = f'    "msg": "{drawn(false)!r}"\n+{drawn(false)}'

    assert step.recap(f"{drawn(false)}\n{inside}\n{drawn(stats)}") == stats


def test_what_other_callbacks_add_below_is_left_alone():
    stats = {"web-1": step.Tally(2, 1, 0, 0)}

    assert step.recap(f"{drawn(stats)}\nCUSTOM STATS: ****\n\tRUN: x\nweb-2 : ok=1\nWednesday 25 November\n") == stats


@given(st.text(max_size=500))
def test_any_text_can_be_looked_through(text):
    for told in (text, f"PLAY RECAP *\n{text}", f"ERROR! {text}"):
        assert isinstance(step.recap(told), dict)
        assert "\n" not in step.fault(told)
        assert len(step.fault(told)) <= 400


@pytest.mark.parametrize("text", ["", "PLAY RECAP", "xPLAY RECAP *\nweb : ok=1 changed=0 unreachable=0 failed=0"])
def test_no_recap_is_no_host(text):
    assert step.recap(text) == {}


def test_a_flood_of_hosts_is_read_at_once_and_bounded_in_what_is_kept():
    stats = {f"host-{i}": step.Tally(1, 1, 0, 1) for i in range(5000)}

    assert len(step.recap(drawn(stats))) == 5000
    outcome = step.process.Outcome(2, False, False, drawn(stats), "", 0, 1.0)
    context = step.StepContext("run1", "step")
    result = step._judged(context, params(), outcome, stats, check=False)
    assert (len(result.values["stats"]), len(result.values["failed"])) == (500, 500)
    assert result.values["changed"] == 5000
    assert result.summary.endswith("host-9 and 4990 more")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[WARNING]: x\nERROR! the playbook: x could not be found\n", "the playbook: x could not be found"),
        ("[ERROR]: Decryption failed\nOrigin: x", "Decryption failed"),
        ("Traceback\n  x\nOSError: no", "OSError: no"),
    ],
)
def test_a_fault_is_told_in_the_programs_words(text, told):
    assert step.fault(text) == told


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"limit": ""}, "is empty; leave it out"),
        ({"limit": None}, "is empty; leave it out"),
        ({"inventory": ""}, "is empty; leave it out"),
        ({"tags": []}, "is empty; leave it out"),
        ({"limit": "~web.*"}, "is no pattern of hosts"),
        ({"limit": "@/etc/passwd"}, "is no pattern of hosts"),
        ({"limit": "-x"}, "is no pattern of hosts"),
        ({"limit": "a\n"}, "is no pattern of hosts"),
        ({"tags": ["a,b"]}, "cannot be a tag"),
        ({"tags": ["a\n"]}, "cannot be a tag"),
        ({"vars": {"a-b": 1}}, "'a-b' cannot be the name of a variable"),
        ({"vars": {"a\n": 1}}, "cannot be the name of a variable"),
        (
            {"env": {"ANSIBLE_STDOUT_CALLBACK": "x"}},
            "ANSIBLE_STDOUT_CALLBACK cannot be set; put it into the ansible.cfg",
        ),
        ({"env": {"LD_PRELOAD": "x"}}, "LD_PRELOAD cannot be set"),
        ({"env": {"RUNBOOK_RUN": "x"}}, "RUNBOOK_RUN cannot be set"),
        ({"check": "yes"}, "valid boolean"),
    ],
)
def test_what_cannot_be_meant_is_refused(raw, told):
    with pytest.raises(ValidationError, match=told):
        params(**raw)


def test_without_an_inventory_the_hosts_must_be_named():
    with pytest.raises(ValidationError, match=r"say with limit which hosts of targets\.yaml are meant"):
        step.Params.model_validate({"playbook": "site.yml"})


@pytest.mark.parametrize(
    "limit", ["web-1", "web:!web-2", "*.example.com", "web[0:3]", "!db", "a,b", "&web", "10.0.0.1"]
)
def test_patterns_of_hosts_are_taken(limit):
    assert params(limit=limit).limit == limit


def test_an_empty_parameter_does_not_widen_a_play(bench):
    context = bench.context(values={"params": {"x": None}})

    with pytest.raises(PermanentError, match="limit: is empty; leave it out if that is meant"):
        prepare(step, {"playbook": "site.yml", "inventory": "x", "limit": "{{ params.x }}"}, context)


def test_a_check_changes_nothing():
    assert (effect(step, params()), effect(step, params(check=True))) == ("write", "read")


def test_the_preview_names_hosts_and_no_value():
    found = params(limit="web", vars={"word": "hunter22"}, tags=["a", "b"], vault_password="hunter22")

    assert step.preview(found) == "would play site.yml on the hosts of hosts.ini, only web, only tags a, b, with word"
    assert step.preview(params(check=True)) == "would check site.yml on the hosts of hosts.ini"


def test_an_approval_is_bound_to_the_files_and_hosts_it_uses():
    named = step.Params.model_validate({"playbook": "site.yml", "limit": "web-1:web-2"})

    def needed(given: step.Params) -> list[tuple[str, str]]:
        return [need for need in step.needs(given) if need[0] != "beside"]

    assert needed(params()) == [("file", "site.yml"), ("file", "hosts.ini")]
    assert needed(named) == [("file", "site.yml"), ("host", "web-1"), ("host", "web-2")]
    for limit, hosts in (("all:!web-3", []), ("web-*,db-1", ["db-1"]), ("{{ params.host }}", ["{{ params.host }}"])):
        pattern = named.model_copy(update={"limit": limit})
        assert needed(pattern) == [("file", "site.yml"), *(("host", host) for host in hosts)]


def test_an_approval_is_bound_to_what_a_playbook_finds_around_itself():
    def around(playbook: str) -> set[str]:
        return {name for kind, name in step.needs(params(playbook=playbook)) if kind == "beside"}

    assert around("play/web/site.yml") == {"play/web"}
    assert {"roles", "group_vars", "host_vars", "ansible.cfg", "library"} <= around("site.yml")


def test_the_hosts_of_targets_yaml_become_an_inventory(bench, tmp_path):
    host = Host(address="10.0.0.9", port=2222, user="deploy", key="keys/a b", known_hosts="known 'hosts'")
    context = bench.context(reach=Reach(Targets(hosts={"web-1": host}), tmp_path))
    corner = tmp_path / "corner"
    corner.mkdir()

    file = step._inventory(context, step.Params.model_validate({"playbook": "x", "limit": "all"}), corner)

    row = step.json.loads(file.read_text())["all"]["hosts"]["web-1"]
    assert (row["ansible_host"], row["ansible_port"], row["ansible_user"]) == ("10.0.0.9", 2222, "deploy")
    assert row["ansible_ssh_private_key_file"] == str(tmp_path / "keys/a b")
    last = step.shlex.split(row["ansible_ssh_common_args"])[-1]
    assert last == f"UserKnownHostsFile=\"{tmp_path}/known 'hosts'\""
    assert oct(file.stat().st_mode & 0o777) == "0o600"


def test_a_missing_program_is_named_with_what_to_install():
    with pytest.raises(
        PermanentError, match=r"is not installed \(looked in .*\); install Ansible \(the package ansible-"
    ):
        step.need("ansible-playbook-of-nobody", step.INSTALL)
