"""The Java that Spark's daemons run on."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sparkbundle.errors import PreflightError

MINIMUM = 17
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


@dataclass(frozen=True)
class Java:
    """A Java that can run Spark."""

    path: str
    version: int


def find_java() -> Java:
    """The Java that Spark starts: $JAVA_HOME/bin/java, else the first one on PATH.

    Raises:
        PreflightError: there is none, it is older than 17, or it is a trimmed one
            without the module `jdk.incubator.vector`, which Spark 4 loads.
    """
    path = _path()
    # One call asks both things: is it new enough, is it complete.
    complete = _ask(path, "--add-modules=jdk.incubator.vector", "-version")
    answer = complete if complete.returncode == 0 else _ask(path, "-version")
    found = _VERSION.search(answer.stdout + answer.stderr)
    if found is None:
        said = (answer.stdout + answer.stderr).strip().splitlines()
        raise PreflightError(
            f"does not tell its version: {said[0] if said else 'no output'}",
            where=path,
            todo=_install(),
        )
    version = int(found.group(1))
    if version < MINIMUM:
        raise PreflightError(
            f"Java {version} is too old: Spark needs Java {MINIMUM} or later",
            where=path,
            todo=_install(),
        )
    if complete.returncode != 0:
        raise PreflightError(
            "this Java has no module jdk.incubator.vector, which Spark 4 loads", where=path,
            todo=_install(),
        )  # fmt: skip
    return Java(path=path, version=version)


def _path() -> str:
    if home := os.environ.get("JAVA_HOME"):
        path = Path(home) / "bin" / "java"
        if not os.access(path, os.X_OK):
            raise PreflightError(
                "JAVA_HOME holds no Java",
                where=str(path),
                todo=f"unset JAVA_HOME, or point it at a Java {MINIMUM} or later",
            )
        return str(path)
    found = shutil.which("java")
    if found is None:
        raise PreflightError(f"there is no Java: Spark needs {MINIMUM} or later", todo=_install())
    return found


def _ask(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PreflightError(
            f"this Java does not run: {error}", where=path, todo=_install()
        ) from error


def _install() -> str:
    if os.environ.get("JAVA_HOME"):
        return f"unset JAVA_HOME, or point it at a Java {MINIMUM} or later"
    if shutil.which("apt-get"):
        return "sudo apt-get update && sudo apt-get install -y openjdk-17-jre-headless"
    return f"install OpenJDK {MINIMUM} or later (headless is enough)"
