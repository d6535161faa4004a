"""Running an Ansible playbook as a program, and following what it does on each host.

Ansible is never imported. It gets our host keys, our roles, pipelining and one SSH connection
a host that stays open; of the caller's own Ansible settings only those for vaults and SSH.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sparkbundle.errors import FAILED, UNREACHABLE, SparkbundleError, Trouble
from sparkbundle.files import write_private
from sparkbundle.resources import playbooks, roles

_FORKS = 50
_KEPT = ("ANSIBLE_VAULT_PASSWORD_FILE", "ANSIBLE_VAULT_IDENTITY_LIST")
_LEASH = Path(__file__).with_name("leash.py")


@dataclass
class HostOutcome:
    """What a playbook did on one host; `failed` says where it stopped and why, else empty."""

    changed: list[str] = field(default_factory=list)
    diffs: list[str] = field(default_factory=list)
    ok: int = 0
    phase: str = ""
    failed: str = ""
    told: tuple[str, ...] = ()
    unreachable: bool = False


@dataclass
class Outcome:
    """What a playbook did, by host."""

    hosts: dict[str, HostOutcome] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """How many tasks changed something, on all hosts together."""
        return sum(len(host.changed) for host in self.hosts.values())

    @property
    def failures(self) -> dict[str, HostOutcome]:
        """The hosts on which it stopped early."""
        return {name: host for name, host in self.hosts.items() if host.failed}


def phases(name: str) -> list[str]:
    """The phases of a playbook, in order: the names of its plays, as they stand in a line."""
    plays = yaml.safe_load((playbooks() / f"{name}.yml").read_text(encoding="utf-8"))
    return [_phase(play["name"]) for play in plays]


def _phase(play: str) -> str:
    return play[:1].lower() + play[1:]


@dataclass(frozen=True, kw_only=True)
class Playbook:
    """A playbook to run: on which inventory, with which variables, under which host keys.

    `variables` may hold secrets: they travel in a 0600 file that is removed at the end.
    `log` gets all that Ansible says.
    """

    name: str
    inventory: Path
    known_hosts: Path
    log: Path
    variables: Mapping[str, Any]
    limit: Sequence[str] = ()
    check: bool = False

    def run(self, listen: Callable[[Mapping[str, Any]], None]) -> Outcome:
        """Run it to its end; each event goes to `listen` as it happens.

        Raises:
            SparkbundleError: Ansible itself fails. A host that fails is in the outcome.
        """
        outcome = Outcome()
        # Short, because the path of a socket must fit into 108 bytes.
        with tempfile.TemporaryDirectory(prefix="sb-") as scratch:
            variables = Path(scratch) / "variables.json"
            write_private(variables, json.dumps(self.variables))
            (Path(scratch) / "ansible.cfg").touch()
            command = [sys.executable, _LEASH, scratch, *self._command(variables)]
            with (
                self.log.open("ab") as log,
                subprocess.Popen(
                    [str(word) for word in command],
                    env=self._environment(scratch),
                    # Ansible reads group_vars of the folder that it is started in, too.
                    cwd=scratch,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                ) as process,
            ):
                try:
                    self._follow(process, log, outcome, listen)
                    code = process.wait()
                except BaseException:
                    # Closing its input ends Ansible and all its connections.
                    assert process.stdin is not None
                    process.stdin.close()
                    process.wait()
                    raise
        if code != 0 and not outcome.failures:
            said = self.log.read_text(errors="replace").splitlines()[-6:]
            raise SparkbundleError(
                f"ansible-playbook ended with exit code {code}",
                where=self.name,
                todo=f"read {self.log}",
                troubles=(
                    Trouble(
                        daemon="ansible", phase=self.name, reason="", log="", last_lines=tuple(said)
                    ),
                ),
            )
        return outcome

    def _follow(
        self,
        process: "subprocess.Popen[bytes]",
        log: Any,
        outcome: Outcome,
        listen: Callable[[Mapping[str, Any]], None],
    ) -> None:
        assert process.stdout is not None
        phase = ""
        for line in process.stdout:
            log.write(line)
            log.flush()
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a notice of Ansible's own: it is in the log
            if event["event"] == "play":
                phase = event["name"] = _phase(event["name"])
            elif event["event"] == "result":
                _note(outcome, event, phase)
            listen(event)

    def _command(self, variables: Path) -> list[str]:
        program = Path(sys.executable).with_name("ansible-playbook")
        words = [
            str(program),
            "-i",
            str(self.inventory.absolute()),
            "-e",
            f"@{variables}",
            "--diff",
        ]
        if self.limit:
            words += ["--limit", ",".join(self.limit)]
        if self.check:
            words.append("--check")
        return [*words, str(playbooks() / f"{self.name}.yml")]

    def _environment(self, scratch: str) -> dict[str, str]:
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("ANSIBLE_") or key in _KEPT
        }
        ssh = {
            "UserKnownHostsFile": str(self.known_hosts),
            "StrictHostKeyChecking": "yes",
            "ControlMaster": "auto",
            "ControlPersist": "60s",
            "ServerAliveInterval": "10",
            "ServerAliveCountMax": "3",
            "ConnectTimeout": "10",
        }
        return kept | {
            "ANSIBLE_CONFIG": f"{scratch}/ansible.cfg",
            "ANSIBLE_ROLES_PATH": str(roles()),
            "ANSIBLE_CALLBACK_PLUGINS": str(playbooks() / "callbacks"),
            "ANSIBLE_STDOUT_CALLBACK": "events",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_FORKS": str(_FORKS),
            "ANSIBLE_HOST_KEY_CHECKING": "1",
            "ANSIBLE_SSH_ARGS": shlex.join(f"-o{key}={value}" for key, value in ssh.items()),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{scratch}/c",
            "ANSIBLE_REMOTE_TMP": "~/.sparkbundle",  # of our own, so that `down --purge` removes it
            "ANSIBLE_LOCAL_TEMP": f"{scratch}/t",
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_RETRY_FILES_ENABLED": "0",
            "LC_ALL": "C.UTF-8",
        }


def _note(outcome: Outcome, event: Mapping[str, Any], phase: str) -> None:
    host = outcome.hosts.setdefault(event["host"], HostOutcome())
    host.phase = phase
    if event["status"] == "changed":
        host.changed.append(event["task"])
        if event["diff"]:
            host.diffs.append(event["diff"])
    elif event["status"] in ("failed", "unreachable"):
        host.failed = event["task"]
        host.told = tuple(event["told"])
        host.unreachable = event["status"] == "unreachable"
    else:
        host.ok += 1


def failure(outcome: Outcome, *, log: Path, what: str, todo: str) -> SparkbundleError:
    """The error with a row for each host on which a playbook stopped."""
    rows = []
    for name, host in outcome.failures.items():
        said = [line for text in host.told for line in text.splitlines() if line.strip()]
        rows.append(
            Trouble(
                daemon=name,
                phase=host.phase,
                reason=f"{host.failed}: {said[0] if said else 'no reason given'}",
                log=str(log),
                last_lines=tuple(said[1:][-4:]),
                todo=f"read {log}",
            )
        )
    lost = all(host.unreachable for host in outcome.failures.values())
    return SparkbundleError(
        what, todo=todo, code=UNREACHABLE if lost else FAILED, troubles=tuple(rows)
    )
