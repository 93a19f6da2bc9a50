"""A real sshd on a free port of this machine, with keys of its own, into the account that runs the tests."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")

CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
AllowAgentForwarding yes
MaxStartups 50
MaxSessions 50
LogLevel VERBOSE
"""

TARGETS = """\
version: 1
hosts:
  web-1: {{address: 127.0.0.1, port: {port}, user: {user}, key: client_key, known_hosts: known_hosts}}
"""


@dataclass
class Sshd:
    """The server, and a folder with targets.yaml and what it names."""

    folder: Path
    port: int
    user: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert SSHD, "no sshd: apt-get install openssh-server"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")], stderr=log, stdin=subprocess.DEVNULL
            )
        for _ in range(500):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self.process.poll() is None, self.log()
            time.sleep(0.02)
        raise AssertionError(f"sshd does not answer: {self.log()}")

    def stop(self) -> None:
        """Take no new connections; what is open stays open."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def sessions(self) -> list[int]:
        """The processes that hold the connections open, one or two for each."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError, ValueError):
                    title = (entry / "cmdline").read_bytes()
                    if title.startswith((b"sshd: ", b"sshd-session: ")) and self._mine(int(entry.name)):
                        found.append(int(entry.name))
        return found

    def cut(self) -> None:
        """Break every connection off."""
        for pid in self.sessions():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def _mine(self, pid: int) -> bool:
        while pid > 1 and self.process is not None:
            pid = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
            if pid == self.process.pid:
                return True
        return False


@contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    """One that runs, with a client's key that it knows (`client_key`) and one that it does not (`other_key`)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in ("host_key", "client_key", "other_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    public = (folder / "host_key.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public[0]} {public[1]}\n")
    (folder / "authorized_keys").write_text((folder / "client_key.pub").read_text())
    (folder / "sshd_config").write_text(CONFIG.format(port=port, folder=folder))
    user = pwd.getpwuid(os.geteuid()).pw_name
    (folder / "targets.yaml").write_text(TARGETS.format(port=port, user=user))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on it when it runs as root
    made = Sshd(folder, port, user)
    made.start()
    try:
        yield made
    finally:
        made.cut()
        made.stop()
