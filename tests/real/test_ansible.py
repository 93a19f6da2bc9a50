"""The ansible step with a real ansible-playbook, on this machine and over ssh to it."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.catalog.targets import Host, Reach, Targets
from bot.kit.errors import PermanentError
from bot.kit.tasks import spawn
from bot.runs.redact import MASK
from bot.runs.step import Cancelled, StepResult, prepare
from bot.steps import ansible as step
from tests.real.sshd import sshd
from tests.steps.conftest import Bench

HOSTS = """
[web]
web-1
web-2
[db]
db-1 ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1 ansible_ssh_common_args="-o ConnectTimeout=2"
[all:vars]
ansible_connection=local
ansible_python_interpreter="{{ ansible_playbook_python }}"
"""
FILE = """
- hosts: web
  gather_facts: false
  tasks:
    - name: Write the message
      ansible.builtin.copy: {dest: "{{ folder }}/{{ inventory_hostname }}.txt", content: "{{ word }}\\n"}
      tags: [message]
    - name: Never mind
      ansible.builtin.debug: {msg: "PLAY RECAP ***\\nevil : ok=1 changed=9 unreachable=0 failed=0"}
"""


class Site:
    """A playbook and its inventory beside the runbooks."""

    def __init__(self, home: Path) -> None:
        self.books = home / "runbooks"
        self.folder = self.books / "ansible"
        self.folder.mkdir(parents=True)
        self.made = home / "made"
        self.made.mkdir()
        self.scratch = home / "run1"
        self.scratch.mkdir(mode=0o700)
        self.bench = Bench()
        self.write("hosts.ini", HOSTS)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def plays(self, *tasks: str, hosts: str = "web") -> None:
        listed = "".join(f"    - {task}\n" for task in tasks)
        self.write("site.yml", f"- hosts: {hosts}\n  gather_facts: false\n  tasks:\n{listed}")

    async def run(
        self,
        *,
        params: dict[str, Any] | None = None,
        dry: bool = False,
        context: dict[str, Any] | None = None,
        **raw: Any,
    ) -> StepResult:
        more = {"folder": self.books, "scratch": self.scratch, "timeout": 60.0, **(context or {})}
        made = self.bench.context(values={"params": params or {}}, **more)
        raw = {"playbook": "ansible/site.yml", **raw}
        if raw.get("inventory", "") is not None:
            raw = {"inventory": "ansible/hosts.ini", **raw}
        else:
            del raw["inventory"]
        return await (step.dry_run if dry else step.run)(made, prepare(step, raw, made))

    async def message(self, **raw: Any) -> StepResult:
        self.write("site.yml", FILE)
        raw["vars"] = {"folder": str(self.made), "word": "hello", **raw.get("vars", {})}
        return await self.run(**raw)

    def found(self) -> dict[str, str]:
        return {file.name: file.read_text() for file in sorted(self.made.iterdir())}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_a_playbook_is_played_and_each_host_counted(site):
    result = await site.message()

    assert result.ok
    assert result.summary == "ansible/site.yml: changed web-1, web-2; well on 2 hosts"
    assert result.values["stats"] == {
        "web-1": {"ok": 2, "changed": 1, "failed": 0, "unreachable": 0},
        "web-2": {"ok": 2, "changed": 1, "failed": 0, "unreachable": 0},
    }
    assert (result.values["changed"], result.values["exit_code"]) == (2, 0)
    assert site.found() == {"web-1.txt": "hello\n", "web-2.txt": "hello\n"}
    assert "TASK [Write the message] *" in "\n".join(site.bench.said)
    assert "\x1b" not in "\n".join(site.bench.said)
    again = await site.message()
    assert again.summary == "ansible/site.yml: nothing to change; well on 2 hosts"


@pytest.mark.parametrize("how", [{"dry": True}, {"dry": True, "diff": False}, {"check": True}])
async def test_a_dry_run_and_a_check_change_nothing_and_show_what_would(site, how):
    result = await site.message(**how)

    assert result.ok
    assert result.summary == "ansible/site.yml: would change web-1, web-2; well on 2 hosts"
    assert result.values["changed"] == 2
    assert "+hello" in result.output
    assert site.found() == {}


async def test_a_diff_can_be_left_out(site):
    assert "+hello" not in (await site.message(diff=False)).output


async def test_a_limit_keeps_to_some_hosts_and_tags_to_some_tasks(site):
    result = await site.message(limit="web:!web-2", tags=["message"])

    assert result.values["stats"] == {"web-1": {"ok": 1, "changed": 1, "failed": 0, "unreachable": 0}}
    assert list(site.found()) == ["web-1.txt"]


async def test_hosts_that_fail_and_hosts_that_cannot_be_reached_are_named(site):
    site.plays("ansible.builtin.command: test {{ inventory_hostname }} = web-1", hosts="all")

    result = await site.run()

    assert not result.ok
    assert result.summary == "ansible/site.yml: failed on web-2; could not reach db-1"
    assert (result.values["failed"], result.values["unreachable"]) == (["web-2"], ["db-1"])
    assert result.values["stats"]["web-1"]["ok"] == 1


async def test_no_host_is_not_well(site):
    site.plays("ansible.builtin.debug: {msg: x}", hosts="nobody")

    result = await site.run()

    assert not result.ok
    assert result.summary == "ansible/site.yml: no host matched, nothing was done"


@pytest.mark.parametrize(
    ("files", "raw", "told"),
    [
        ({"site.yml": "- hosts: ["}, {}, "YAML|did not find expected"),
        ({"site.yml": "- hosts: web\n  tasks: [{nonsense: {}}]"}, {}, "couldn't resolve module/action 'nonsense'"),
        ({"hosts.ini": "[web\n"}, {}, "inventory"),
        ({}, {"limit": "nobody"}, "leaves us with no hosts to target"),
        ({"site.yml": "- hosts: web\n  vars_files: [nowhere.yml]\n  tasks: []"}, {}, "Could not find|nowhere.yml"),
        (
            {
                "site.yml": "- hosts: web\n  vars_files: [vault.yml]\n  tasks: []",
                "vault.yml": "$ANSIBLE_VAULT;1.1;AES256\n00",
            },
            {},
            "no vault secrets found",
        ),
    ],
)
async def test_what_is_wrong_before_any_host_comes_into_it_is_said(site, files, raw, told):
    site.plays("ansible.builtin.debug: {msg: x}")
    for name, text in files.items():
        site.write(name, text)

    result = await site.run(**raw)

    assert not result.ok
    assert result.values["stats"] == {}
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(result.summary)


async def test_files_lie_beside_the_runbooks_or_are_refused(site):
    site.plays("ansible.builtin.debug: {msg: x}")

    for raw, told in (
        ({"playbook": "../made"}, "leads out of the folder"),
        ({"playbook": "/etc/passwd"}, "leads out of the folder"),
        ({"playbook": "ansible"}, "is a folder"),
        ({"playbook": "ansible/nowhere.yml"}, "there is no"),
        ({"inventory": "/etc/ansible/hosts"}, "leads out of the folder"),
        ({"inventory": "web-1,"}, "there is no"),
        ({"inventory": "-e@x"}, "there is no"),
    ):
        with pytest.raises(PermanentError, match=told):
            await site.run(**raw)


@pytest.mark.parametrize(
    "evil", ["-e x=1", "--extra-vars", "@/etc/passwd", "~.*", "a b", "a\nb", "", "a;b", "x" * 600, "$(id)", "a\0b"]
)
async def test_a_limit_from_outside_is_a_pattern_of_hosts_or_nothing(site, evil):
    with pytest.raises(PermanentError, match="limit: "):
        await site.message(params={"x": evil}, limit="{{ params.x }}")
    assert site.found() == {}


@pytest.mark.parametrize("evil", ["a,b", "-x", "", "a b", "--check"])
async def test_a_tag_from_outside_is_one_tag_or_nothing(site, evil):
    with pytest.raises(PermanentError, match=r"tags\.0: .* cannot be a tag"):
        await site.message(params={"x": evil}, tags=["{{ params.x }}"])


@pytest.mark.parametrize(
    "evil",
    ["{{ lookup('pipe', 'touch pwned') }}", "{% for x in y %}", "{#", {"a": ["{{ x }}"]}, ["{{ x }}"], {"{{ x }}": 1}],
)
async def test_a_variable_that_ansible_would_compute_is_refused(site, evil):
    with pytest.raises(PermanentError, match=r"the variable word holds \{\{ or"):
        await site.message(params={"x": evil}, vars={"word": "{{ params.x }}"})
    assert site.found() == {}


async def test_a_variable_is_taken_as_it_stands(site):
    evil = [
        "a'b\"c",
        "x=1 y=2",
        "@/etc/passwd",
        "$(id)",
        "; touch pwned",
        "--check",
        "é\U0001f600",
        "!vault x",
        "a\nb: 1",
    ]
    site.plays(
        '{ansible.builtin.copy: {dest: "{{ folder }}/{{ item.0 }}", content: "{{ item.1 }}"}, loop: "{{ words }}"}'
    )
    values = {f"x{i}": word for i, word in enumerate(evil)}
    words = [[f"x{i}", f"{{{{ params.x{i} }}}}"] for i, _ in enumerate(evil)]

    result = await site.run(params=values, vars={"words": words, "folder": str(site.made)}, limit="web-1")

    assert result.ok, result.output
    assert site.found() == values


async def test_a_secret_is_in_no_command_line_and_in_no_output(site):
    site.plays(
        "ansible.builtin.shell: touch {{ folder }}/begun; sleep 2; echo {{ token }}",
        "ansible.builtin.debug: {var: token}",
    )
    running = spawn(
        site.run(
            limit="web-1",
            vars={"token": "{{ secrets.TOKEN }}", "folder": str(site.made)},
            context={"secrets": {"TOKEN": "correct-horse"}},
        ),
        name="test",
    )
    await until(lambda: (site.made / "begun").exists())
    seen = [
        file.read_bytes() + (file.parent / "environ").read_bytes()
        for file in processes("ansible-playbook", site.bench.run_id)
    ]

    result = await running

    assert result.ok
    assert seen
    assert all(b"correct-horse" not in one for one in seen)
    assert "correct-horse" not in repr(result) + repr(site.bench.said)
    assert MASK in result.output
    assert list(site.scratch.iterdir()) == []


async def test_a_vault_is_opened_by_a_secret(site):
    (site.books / "password").write_text("correct-horse")
    site.write("vault.yml", "word: from the vault\n")
    vault = ["ansible-vault", "encrypt", "--vault-password-file", site.books / "password", site.folder / "vault.yml"]
    subprocess.run(vault, check=True, capture_output=True)
    site.write("site.yml", FILE.replace("  tasks:", "  vars_files: [vault.yml]\n  tasks:"))
    raw = {"limit": "web-1", "vars": {"folder": str(site.made)}, "vault_password": "{{ secrets.VAULT }}"}

    result = await site.run(**raw, context={"secrets": {"VAULT": "correct-horse"}})
    wrong = await site.run(**raw, context={"secrets": {"VAULT": "battery-staple"}})

    assert result.ok
    assert site.found() == {"web-1.txt": "from the vault\n"}
    assert not wrong.ok
    assert "Decryption failed" in wrong.summary


async def test_settings_come_from_beside_the_playbook_alone(site):
    site.write("ansible.cfg", "[defaults]\nstdout_callback = minimal\nroles_path = ours\nforce_color = True\n")
    (site.folder / "ours/greet/tasks").mkdir(parents=True)
    (site.folder / "ours/greet/tasks/main.yml").write_text("- ansible.builtin.debug: {msg: from the role}\n")
    site.write("site.yml", "- hosts: web\n  gather_facts: false\n  roles: [greet]\n")

    result = await site.run(env={"GREETING": "x"})

    assert result.ok
    assert "from the role" in result.output
    with pytest.raises(PermanentError, match="ANSIBLE_CONFIG cannot be set"):
        await site.run(context={"env": {"ANSIBLE_CONFIG": "x"}})


async def test_the_environment_holds_only_what_was_given(site):
    site.plays("ansible.builtin.shell: env > {{ folder }}/env")
    context = {"env": {"REGION": "eu"}, "secrets": {"G": "hunter22"}}

    await site.run(limit="web-1", vars={"folder": str(site.made)}, env={"GREETING": "{{ secrets.G }}"}, context=context)

    lines = dict(line.partition("=")[::2] for line in (site.made / "env").read_text().splitlines())
    assert (lines["GREETING"], lines["REGION"]) == ("hunter22", "eu")
    assert lines["HOME"].startswith("/tmp/runbook-")
    assert not {"PYTEST_CURRENT_TEST", *(name for name in os.environ if name.startswith("TOCSIN"))} & set(lines)


async def test_a_playbook_that_takes_too_long_is_ended_with_all_it_started(site):
    site.plays("ansible.builtin.shell: touch {{ folder }}/begun; sleep 61.25")

    result = await site.run(vars={"folder": str(site.made)}, context={"timeout": 6.0})

    assert not result.ok
    assert result.summary == "ansible/site.yml was stopped after 6 s; what it did until then stands"
    assert (site.made / "begun").exists()
    assert subprocess.run(["pgrep", "-f", "sleep 61.25"], check=False).returncode == 1


async def test_a_cancelled_playbook_is_no_result(site):
    site.plays("ansible.builtin.shell: touch {{ folder }}/begun; sleep 61.5")
    cancelled = asyncio.Event()
    running = spawn(site.run(vars={"folder": str(site.made)}, context={"cancelled": cancelled}), name="test")
    await until(lambda: (site.made / "begun").exists())

    cancelled.set()

    with pytest.raises(Cancelled, match="ansible-playbook was stopped"):
        await running
    assert subprocess.run(["pgrep", "-f", "sleep 61.5"], check=False).returncode == 1


async def test_much_output_is_bounded_and_the_recap_still_found(site):
    site.plays(
        "{ansible.builtin.command: seq 1 150000, register: out}", "ansible.builtin.debug: {var: out.stdout_lines}"
    )

    result = await site.run(limit="web-1")

    assert result.ok
    assert result.truncated > 1_000_000
    assert result.values["stats"]["web-1"]["ok"] == 2


# -- over ssh --------------------------------------------------------------------------------------------------------


@pytest.fixture
def reach(tmp_path: Path) -> Iterator[Reach]:
    """Two hosts that are this machine, and one whose key is not known."""
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    with sshd(folder) as server:
        (folder / "strange").write_text("")
        host = {"address": "127.0.0.1", "port": server.port, "user": server.user, "key": "client_key"}
        known = Host(**host, known_hosts="known_hosts")
        odd = Host(**host, known_hosts="strange")
        yield Reach(Targets(hosts={"web-1": known, "web-2": known, "odd": odd}), folder)


async def test_the_hosts_of_targets_yaml_are_reached_with_their_keys(site, reach):
    site.plays("ansible.builtin.raw: echo $SSH_CONNECTION", hosts="all")

    result = await site.run(inventory=None, limit="web-1:web-2", context={"reach": reach})

    assert result.ok, result.output
    assert result.summary == "ansible/site.yml: changed web-1, web-2; well on 2 hosts"
    assert list(result.values["stats"]) == ["web-1", "web-2"]


async def test_a_host_whose_key_is_not_known_is_not_reached(site, reach):
    site.plays("ansible.builtin.raw: 'true'", hosts="all")

    result = await site.run(inventory=None, limit="odd", context={"reach": reach})

    assert not result.ok
    assert result.summary == "ansible/site.yml: could not reach odd"
    assert "Host key verification failed" in result.output


async def test_without_hosts_or_an_inventory_nothing_is_played(site):
    site.plays("ansible.builtin.debug: {msg: x}", hosts="all")

    with pytest.raises(PermanentError, match=r"targets\.yaml has no hosts"):
        await site.run(inventory=None, limit="all")


async def until(there, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def processes(name: str, run_id: str) -> list[Path]:
    """The command lines of the programs of that name that the run has started."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            named = any(word.endswith(b"/" + name.encode()) for word in file.read_bytes().split(b"\0")[:3])
            if named and f"RUNBOOK_RUN={run_id}/".encode() in (file.parent / "environ").read_bytes():
                found.append(file)
        except OSError:
            continue
    return found
