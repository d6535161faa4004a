"""What Ansible reads in an inventory, asked of `ansible-inventory` alone, without any settings."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sparkbundle.errors import PreflightError
from sparkbundle.inventory_file import Problem

SECONDS = 120


def listing_of(path: Path) -> dict[str, Any] | Problem:
    """What `ansible-inventory --list` says, or why it says nothing.

    Raises:
        PreflightError: it cannot be run.
    """
    program = Path(sys.executable).with_name("ansible-inventory")
    # Ansible also takes a group_vars of the directory that it is started in.
    with tempfile.TemporaryDirectory(prefix="sparkbundle-") as empty:
        try:
            done = subprocess.run(
                [program, "-i", path.absolute(), "--list"],
                cwd=empty,
                env=_environment(Path(empty)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            what = f"Ansible: no answer within {SECONDS} s"
            return Problem(where=str(path), what=what)
        except OSError as error:
            raise PreflightError(
                f"ansible-inventory cannot be run: {error.strerror}",
                where=str(program),
                todo="install sparkbundle again: ansible-core comes with it",
            ) from error
    if done.returncode == 0:
        return dict(json.loads(done.stdout))
    todo = "set ANSIBLE_VAULT_PASSWORD_FILE" if "vault" in done.stderr.lower() else ""
    return Problem(where=str(path), what=f"Ansible: {_reason(done.stderr)}", todo=todo)


def _environment(empty: Path) -> dict[str, str]:
    """The caller's environment without the settings for Ansible, but for the vault's password."""
    config = empty / "ansible.cfg"
    config.touch()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PYTHON"))}
    if password := os.environ.get("ANSIBLE_VAULT_PASSWORD_FILE"):
        kept["ANSIBLE_VAULT_PASSWORD_FILE"] = str(Path(password).expanduser().absolute())
    return kept | {
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(empty),
        "ANSIBLE_INVENTORY_ENABLED": "yaml",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "true",
        "ANSIBLE_NOCOLOR": "true",
        # Ansible wants a locale with UTF-8; macOS has no C.UTF-8.
        "LC_ALL": "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8",
    }


def _reason(stderr: str) -> str:
    """The line that says why Ansible gave up."""
    marks = ("[WARNING]: Failed to parse inventory with 'yaml' plugin: ", "[ERROR]: ", "ERROR! ")
    lines = stderr.strip().splitlines() or ["no reason given"]
    return next(
        (line.removeprefix(m) for m in marks for line in lines if line.startswith(m)), lines[-1]
    )
