"""Puts what `up` needs besides code into the wheel, under sparkbundle/bundled.

The roles, the playbooks, the lock files and the job's wheel: so that `pipx install sparkbundle`
needs no checkout. An editable install needs none of this: it has the checkout.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.errors import SetupError

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"roles": "roles", "playbooks": "deploy/playbooks", "notebooks": "job/notebooks"}
LOCKS = (
    "job/requirements.lock",
    "job/requirements-cpu.lock",
    "job/requirements-cuda.lock",
    "deploy/requirements-builder.lock",
)
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*.egg-info", "build")


class BuildWithResources(build_py):
    """build_py, and then the files from outside this folder."""

    def run(self) -> None:
        """Copy what the wheel shall have; the sources of roles and job stay as they are."""
        package = Path(self.build_lib) / "sparkbundle"
        if not self.editable_mode:
            # An earlier build's: a module that is no more would come along.
            shutil.rmtree(package, ignore_errors=True)
        super().run()
        if not self.editable_mode:
            self._bundle(package / "bundled")

    def _bundle(self, target: Path) -> None:
        for name, source in FOLDERS.items():
            shutil.copytree(_there(source), target / name, ignore=IGNORED)
        (target / "locks").mkdir()
        for lock in LOCKS:
            shutil.copy2(_there(lock), target / "locks")
        _build_job(_there("job"), target)


def _there(path: str) -> Path:
    if not (ROOT / path).exists():
        raise SetupError(f"{path} is missing: build sparkbundle in a checkout, not from its folder")
    return ROOT / path


def _build_job(source: Path, target: Path) -> None:
    """The job's wheel, built from a copy: a build writes beside what it builds."""
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(target.resolve())!r})"
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "job"
        shutil.copytree(source, copy, ignore=IGNORED)
        subprocess.run([sys.executable, "-c", build], cwd=copy, check=True)


setup(cmdclass={"build_py": BuildWithResources})
