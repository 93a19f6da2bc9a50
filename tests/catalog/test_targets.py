"""targets.yaml: what may be reached, where its secrets are, and that nobody is ever shown one."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.catalog import config, targets
from bot.catalog.targets import Reach, Secret, Targets
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.kit.yaml import Document

SECRET = "correct-horse-battery-staple"

WHOLE = """\
version: 1
hosts:
  web-1: {address: web-1.example.com, port: 2222, user: tocsin, key: keys/web, known_hosts: known_hosts}
  db: {address: "::1", user: _ops, key: keys/db, known_hosts: known_hosts}
connections:
  load_balancer:
    url: https://lb.example.com/api
    token: {env: LB_TOKEN}
    private: true
    ca: own.pem
  metrics: {kind: prometheus, url: http://prometheus.example.com, username: me, password: {file: pw}}
  orders: {kind: postgres, url: postgresql://db.example.com:5432/orders, username: ro, password: {command: [vault, x]}}
  files: {kind: sqlite, url: sqlite:///files.db}
  keyed: {url: https://keyed.example.com, headers: {X-Key: {env: KEY}}}
secrets:
  PAGE_KEY: {file: page}
"""


def write(folder: Path, text: str) -> Path:
    (folder / "targets.yaml").write_text(text)
    return folder


def told(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as refused:
        targets.load(write(folder, text), {})
    return str(refused.value)


def connection(text: str) -> str:
    return f"version: 1\nconnections:\n  lb:\n    {text}\n"


def running(pid: str) -> bool:
    """Whether the process lives; one that is over and not yet collected has no command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


# -- the file --------------------------------------------------------------------------------------------------------


def test_without_the_file_nothing_may_be_reached(tmp_path):
    reach = targets.load(tmp_path, {})

    assert reach.targets == Targets()
    with pytest.raises(PermanentError, match=r"targets.yaml has no host 'web-1'; hosts there: none"):
        reach.host("web-1")


def test_a_whole_file_is_read(tmp_path):
    reach = targets.load(write(tmp_path, WHOLE), {})

    assert reach.host("web-1").port == 2222
    assert (reach.host("db").address, reach.host("db").port) == ("::1", 22)
    assert reach.path(reach.host("web-1").key) == tmp_path / "keys/web"
    assert reach.connection("load_balancer").kind == "http"
    assert reach.connection("orders", "postgres", "sqlite").username == "ro"
    assert reach.known("PAGE_KEY")
    assert not reach.known("OTHER")


@pytest.mark.parametrize("text", ["version: 1\n", "version: 1\nhosts:\nconnections:\nsecrets:\n"])
def test_empty_parts_are_nothing(tmp_path, text):
    assert targets.load(write(tmp_path, text), {}).targets == Targets()


def test_every_problem_is_told_at_once_with_its_line(tmp_path):
    text = """\
version: 1
hosts:
  web 1: {address: web-1, user: tocsin, key: k, known_hosts: h}
  web-2: {address: "web-2:22 -oProxyCommand=x", user: Tocsin, port: 0, key: k}
connections:
  lb:
    kind: htpp
    urls: https://lb.example.com
secret: {}
"""

    assert told(tmp_path, text).splitlines() == [
        "targets.yaml:3: hosts: 'web 1' cannot be a name here",
        "targets.yaml:4: 'known_hosts' is missing",
        "targets.yaml:4: hosts.web-2.address: is neither the name of a host nor an IP address; the port stands beside "
        "it",
        "targets.yaml:4: hosts.web-2.port: must be greater than or equal to 1",
        "targets.yaml:4: hosts.web-2.user: is not the name of a user",
        "targets.yaml:6: 'url' is missing",
        "targets.yaml:7: connections.lb.kind: must be 'http', 'prometheus', 'loki', 'postgres', 'sqlite', 'kestra' or "
        "'kubernetes'",
        "targets.yaml:8: unknown key 'urls'; did you mean 'url'?",
        "targets.yaml:9: unknown key 'secret'; did you mean 'secrets'?",
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("url: lb.example.com", 4, "the url of http begins with http:// or https:// and names a host"),
        ("url: 'https:///api'", 4, "the url of http begins with http:// or https:// and names a host"),
        ("{kind: loki, url: ftp://x}", 4, "the url of loki begins with http:// or https://"),
        (
            "{kind: postgres, url: https://db.example.com}",
            4,
            "the url of a postgres is postgresql://host:5432/database",
        ),
        ("url: https://lb.example.com/?a=b", 4, "no ? and no #"),
        ("url: https://lb.example.com/#", 4, "no ? and no #"),
        ("url: 'https://[::1'", 4, "the url cannot be read"),
        (f"url: https://me:{SECRET}@lb.example.com", 4, "a password never stands in a url"),
        (f"url: https://{SECRET}@lb.example.com", 4, "a user never stands in this url"),
        (f"{{kind: postgres, url: 'postgresql://me:{SECRET}@db/x'}}", 4, "a password never stands in a url"),
        (
            "{url: https://x, token: {env: A}, username: b, password: {env: C}}",
            4,
            "a token, or a username and a password",
        ),
        ("{url: https://x, username: b}", 4, "a username needs a password"),
        ("{url: https://x, password: {env: C}}", 4, "a username needs a password"),
        ("{url: https://x, write: true}", 4, "write does nothing for http"),
        ("{kind: sqlite, url: x.db, token: {env: A}}", 4, "token does nothing for a database"),
        ("{url: https://x, headers: {'a b': {env: A}}}", 4, "'a b' is not the name of a header"),
        (
            "{url: https://x, token: {env: A}, headers: {authorization: {env: A}}}",
            4,
            "Authorization is made of the token",
        ),
    ],
)
def test_a_connection_that_makes_no_sense_is_refused_where_it_stands(tmp_path, text, line, message):
    found = told(tmp_path, connection(text))

    assert found.startswith(f"targets.yaml:{line}: connection 'lb': ")
    assert message in found
    assert SECRET not in found


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        (SECRET, "a secret is never written here; say where the secret is: {env: NAME}"),
        (f"[{SECRET}]", "a secret is never written here"),
        ("3", "a secret is never written here"),
        ("{}", "say where the secret is"),
        ("{env: A, file: B}", "say where the secret is"),
        ("{env: " + SECRET + "}", "names an environment variable, such as LB_TOKEN"),
        ("{env: ''}", "names an environment variable"),
        ("{value: " + SECRET + "}", "unknown key 'value'; there is: command, env, file"),
        ("{command: []}", "at least 1"),
        ("{command: vault read x}", "must be a list"),
    ],
)
def test_a_secret_that_is_written_down_is_refused_and_not_repeated(tmp_path, secret, message):
    for text in (
        connection(f"{{url: https://x, token: {secret}}}"),
        connection(f"{{url: https://x, headers: {{X-Key: {secret}}}}}"),
        f"version: 1\nsecrets:\n\n  KEY: {secret}\n",
    ):
        found = told(tmp_path, text)

        assert found.startswith("targets.yaml:4: ")
        assert message in found
        assert SECRET not in found


def test_a_file_that_is_called_otherwise_is_not_overlooked(tmp_path):
    (tmp_path / "targets.yml").write_text(WHOLE)

    with pytest.raises(UserError, match=r"targets.yml:1: this file is not read; call it targets.yaml"):
        config.load(tmp_path, {})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "hosts",
                        "connections",
                        "secrets",
                        "a",
                        "url",
                        "kind",
                        "token",
                        "env",
                        "command",
                        "address",
                        "headers",
                    ]
                )
                | st.text(max_size=5),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_stands_in_the_file_it_is_read_or_refused_with_a_line(content):
    document = Document("targets.yaml", {"version": 1, **content} if isinstance(content, dict) else content)
    problems: list[str] = []
    try:
        found = config.checked(document, Targets)
    except config.ConfigError as error:
        problems = error.problems
    else:
        problems = [
            f"targets.yaml:1: {wrong}" for one in found.connections.values() for _, wrong in targets._wrong(one)
        ]

    assert all(problem.startswith("targets.yaml:1: ") for problem in problems)


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda reach: reach.host("web-11"), "targets.yaml has no host 'web-11'; did you mean web-1?"),
        (
            lambda reach: reach.connection("lbb"),
            "targets.yaml has no connection 'lbb'; connections there: files, keyed",
        ),
        (
            lambda reach: reach.connection("files", "http", "loki"),
            "'files' is of kind sqlite; this step needs http or loki",
        ),
        (lambda reach: reach.host("web-1\n"), "targets.yaml has no host 'web-1\\n'"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_what_was_meant(tmp_path, ask, message):
    with pytest.raises(PermanentError) as refused:
        ask(targets.load(write(tmp_path, WHOLE), {}))

    assert message in str(refused.value)


# -- secrets ---------------------------------------------------------------------------------------------------------


async def test_a_secret_comes_from_where_it_is_kept_and_as_it_is_now(tmp_path):
    environment = {"KEY": f" {SECRET}\n", "PATH": os.environ["PATH"]}
    (tmp_path / "file").write_text(f"{SECRET} \n")
    reach = Reach(folder=tmp_path, environment=environment)

    assert await reach.reveal(Secret(env="KEY"), "x") == SECRET
    assert await reach.reveal(Secret(file=Path("file")), "x") == f"{SECRET} "
    assert await reach.reveal(Secret(command=["sh", "-c", f"echo {SECRET}"]), "x") == SECRET
    (tmp_path / "file").write_text("changed")
    assert await reach.reveal(Secret(file=Path("file")), "x") == "changed"


async def test_what_a_runbook_calls_a_secret_is_looked_for_in_the_file_then_in_the_environment(tmp_path):
    write(tmp_path, "version: 1\nsecrets:\n  A: {env: REAL_A}\n")
    reach = targets.load(tmp_path, {"REAL_A": "from the file", "A": "wrong", "B": "from the environment"})

    assert await reach.secret("A") == "from the file"
    assert await reach.secret("B") == "from the environment"
    with pytest.raises(PermanentError, match="the secret C is not set: the environment variable C is empty"):
        await reach.secret("C")


@pytest.mark.parametrize("content", [b"", b" \n\t\n", b"\xff\xfe", b"x" * 70_000])
async def test_a_file_that_holds_no_secret_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(PermanentError, match=r"the secret token of lb: .*/file gives (nothing|no UTF-8|more than)"):
        await Reach(folder=tmp_path).reveal(Secret(file=Path("file")), "token of lb")


@pytest.mark.parametrize("name", ["absent", ".", "absent/x"])
async def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(PermanentError, match="the secret x cannot be read from"):
        await Reach(folder=tmp_path).reveal(Secret(file=Path(name)), "x")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo {s} >&2; echo {s}; exit 3", "sh ended with code 3"),
        ("echo {s} >&2", "sh gives nothing"),
        ("printf '\\377'", "sh gives no UTF-8 text"),
        ("yes {s}", "sh gives more than 64 kB"),
        ("kill -9 $$", "sh ended with code -9"),
    ],
)
async def test_a_program_that_gives_no_secret_is_told_without_a_word_of_it(script, message):
    began = time.monotonic()

    with pytest.raises(PermanentError) as refused:
        await Reach(environment={"PATH": os.environ["PATH"]}).reveal(
            Secret(command=["sh", "-c", script.replace("{s}", SECRET)]), "token of lb"
        )

    assert message in str(refused.value)
    assert "token of lb" in str(refused.value)
    assert SECRET not in str(refused.value)
    assert time.monotonic() - began < 5


async def test_a_program_that_is_not_there_is_named():
    with pytest.raises(PermanentError, match="no-such-vault cannot be run"):
        await Reach().reveal(Secret(command=["no-such-vault"]), "x")


@pytest.mark.slow
async def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    pids = tmp_path / "pids"
    script = f"sleep 987 & echo $! >> {pids}; echo $$ >> {pids}; trap '' TERM; wait; sleep 987"
    reach = Reach(environment={"PATH": os.environ["PATH"]})
    asking = asyncio.ensure_future(reach.reveal(Secret(command=["sh", "-c", script]), "token of lb"))
    began = time.monotonic()

    with pytest.raises(TemporaryError, match="token of lb cannot be had: sh gave none within 10 s"):
        await asking

    assert time.monotonic() - began < 14
    for _ in range(100):  # a signal that was sent may take its time on a busy machine
        if not any(map(running, pids.read_text().split())):
            break
        await asyncio.sleep(0.05)
    assert not any(map(running, pids.read_text().split()))


async def test_a_program_is_ended_when_nobody_waits_for_it_any_more(tmp_path):
    pids = tmp_path / "pids"
    reach = Reach(environment={"PATH": os.environ["PATH"]})
    asking = asyncio.ensure_future(
        reach.reveal(Secret(command=["sh", "-c", f"echo $$ > {pids}.new; mv {pids}.new {pids}; sleep 987"]), "x")
    )
    while not pids.exists():
        await asyncio.sleep(0.02)

    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    assert not running(pids.read_text().strip())


async def test_credentials_become_headers_and_are_known_as_secrets(tmp_path):
    (tmp_path / "pw").write_text("hunter22")
    reach = targets.load(write(tmp_path, WHOLE), {"LB_TOKEN": SECRET, "KEY": "hunter33"})

    token, basic, keyed = [await reach.credentials(name) for name in ("load_balancer", "metrics", "keyed")]

    assert (token.headers, token.secrets) == ({"Authorization": f"Bearer {SECRET}"}, (SECRET,))
    assert basic.headers == {"Authorization": "Basic bWU6aHVudGVyMjI="}
    assert set(basic.secrets) == {"hunter22", "bWU6aHVudGVyMjI="}
    assert (keyed.headers, keyed.secrets) == ({"X-Key": "hunter33"}, ("hunter33",))


# -- what is odd -----------------------------------------------------------------------------------------------------


def test_what_is_named_and_not_there_is_told_and_nothing_is_opened(tmp_path):
    reach = targets.load(write(tmp_path, WHOLE), {"PATH": os.environ["PATH"], "KEY": SECRET})

    assert reach.oddities() == [
        f"targets.yaml: host 'web-1': there is no file {tmp_path}/keys/web (key)",
        f"targets.yaml: host 'web-1': there is no file {tmp_path}/known_hosts (known_hosts)",
        f"targets.yaml: host 'db': there is no file {tmp_path}/keys/db (key)",
        f"targets.yaml: host 'db': there is no file {tmp_path}/known_hosts (known_hosts)",
        "targets.yaml: connection 'load_balancer': the environment variable LB_TOKEN is not set",
        f"targets.yaml: connection 'load_balancer': there is no file {tmp_path}/own.pem (ca)",
        f"targets.yaml: connection 'metrics': there is no file {tmp_path}/pw (file)",
        "targets.yaml: connection 'metrics': its credentials go over http://, where anybody on the way can read them",
        "targets.yaml: connection 'orders': the program vault is not installed",
        f"targets.yaml: secret 'PAGE_KEY': there is no file {tmp_path}/page (file)",
    ]


def test_a_key_that_others_may_read_is_told_since_ssh_refuses_it(tmp_path):
    host = "{address: a, user: b, key: key, known_hosts: key}"
    reach = targets.load(write(tmp_path, f"version: 1\nhosts:\n  web-1: {host}\n"), {})
    (tmp_path / "key").touch()

    (tmp_path / "key").chmod(0o640)
    assert reach.oddities() == [
        f"targets.yaml: host 'web-1': ssh refuses a key that others may read: chmod 600 {tmp_path}/key"
    ]
    (tmp_path / "key").chmod(0o600)
    assert reach.oddities() == []
