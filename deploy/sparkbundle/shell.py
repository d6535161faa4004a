"""A shell on a host: the system's OpenSSH takes the place of this process."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sparkbundle.errors import PreflightError
from sparkbundle.inventory import Host, Inventory
from sparkbundle.reach import reaching
from sparkbundle.running import line_of


def enter(inventory: Inventory, host: Host, *, words: Sequence[str] = ()) -> NoReturn:
    """Become `ssh` to a host; with `words`, run them there instead of a shell.

    Raises:
        PreflightError: there is no `ssh` on this machine.
        SparkbundleError: the host is not reached, takes none of our keys or shows another key.
    """
    program = shutil.which("ssh")
    if program is None:
        raise PreflightError(
            "there is no `ssh` here", todo="install OpenSSH's client: apt install openssh-client"
        )
    with reaching(inventory) as hosts:
        # It learns the key of a host that is met for the first time: ssh itself must not.
        hosts.connection(host)
        known_hosts = hosts.known_hosts
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(program, ssh_words(host, known_hosts=known_hosts, words=words))  # noqa: S606


def ssh_words(host: Host, *, known_hosts: Path, words: Sequence[str] = ()) -> list[str]:
    """The command line of `ssh` for a host."""
    options = {
        # The quotes are for ssh, which splits the value at spaces.
        "UserKnownHostsFile": f'"{known_hosts}"',
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
    }
    line = ["ssh"]
    for name, value in options.items():
        line += ["-o", f"{name}={value}"]
    if host.ssh_port is not None:
        line += ["-p", str(host.ssh_port)]
    if host.ssh_user is not None:
        line += ["-l", host.ssh_user]
    if host.ssh_key is not None:
        line += ["-i", str(Path(host.ssh_key).expanduser()), "-o", "IdentitiesOnly=yes"]
    return [*line, "--", host.ssh_host, *([line_of(words)] if words else [])]
