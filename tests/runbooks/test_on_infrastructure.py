"""Drift is found by the real Terraform and the real Ansible, and nothing is changed by the look at it."""

from pathlib import Path

import pytest

from bot.runs.model import RunState

MAIN = 'resource "terraform_data" "web" {{ input = "{value}" }}\n'
SITE = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: The message of the day
      ansible.builtin.copy: {{dest: '{folder}/motd', content: "welcome\\n"}}
"""
HOSTS = "[web]\nweb-1 ansible_connection=local ansible_python_interpreter=auto_silent\n"


@pytest.fixture
def beside(library, tmp_path: Path) -> Path:
    """A folder of runbooks with a configuration and a playbook beside them."""
    library.folder = tmp_path / "runbooks"
    (library.folder / "infrastructure").mkdir(parents=True)
    (library.folder / "playbooks").mkdir()
    (library.folder / "infrastructure" / "main.tf").write_text(MAIN.format(value="a"))
    (library.folder / "playbooks" / "site.yml").write_text(SITE.format(folder=tmp_path))
    (library.folder / "inventory").write_text(HOSTS)
    return library.folder


async def test_what_terraform_would_still_do_is_told_and_not_done(library, beside):
    run = await library.play("drift-terraform", {"binary": "terraform"})

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs == {"drifted": 0, "to_apply": 1}
    assert "An apply of infrastructure (default) would add 1, change 0 and destroy 0." in await library.said()
    assert not (beside / "infrastructure" / "terraform.tfstate").exists()


async def test_a_host_that_is_not_as_ansible_has_it_is_named_and_left_as_it_is(library, beside, tmp_path):
    run = await library.play("drift-ansible", {})

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs == {"drifted": ["web-1"]}
    assert "1 of 1 hosts are not as playbooks/site.yml has them" in await library.said()
    assert not (tmp_path / "motd").exists()


async def test_a_host_that_is_as_ansible_has_it_is_no_finding(library, beside, tmp_path):
    (tmp_path / "motd").write_text("welcome\n")

    run = await library.play("drift-ansible", {})

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs == {"drifted": []}
