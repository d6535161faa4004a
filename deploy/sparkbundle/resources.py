"""What travels with the package: roles, playbooks, locks, notebooks and the job.

A wheel of sparkbundle has them inside, under `sparkbundle/bundled` (see setup.py). An editable
install uses those of its checkout.
"""

from dataclasses import dataclass
from pathlib import Path

from sparkbundle.errors import PreflightError

_BUNDLED = Path(__file__).parent / "bundled"
_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Locks:
    """The lock files: what every node gets, one of the builds of torch, and what builds wheels."""

    job: Path
    cpu: Path
    cuda: Path
    builder: Path


def roles() -> Path:
    """The directory of the Ansible roles.

    Raises:
        PreflightError: it is neither in the package nor in a checkout.
    """
    return _find("roles", "roles")


def playbooks() -> Path:
    """The directory of the playbooks.

    Raises:
        PreflightError: it is neither in the package nor in a checkout.
    """
    return _find("playbooks", "deploy/playbooks")


def notebooks() -> Path:
    """The directory of the notebooks.

    Raises:
        PreflightError: it is neither in the package nor in a checkout.
    """
    return _find("notebooks", "job/notebooks")


def locks() -> Locks:
    """The lock files.

    Raises:
        PreflightError: one is neither in the package nor in a checkout.
    """
    return Locks(
        job=_find("locks/requirements.lock", "job/requirements.lock"),
        cpu=_find("locks/requirements-cpu.lock", "job/requirements-cpu.lock"),
        cuda=_find("locks/requirements-cuda.lock", "job/requirements-cuda.lock"),
        builder=_find("locks/requirements-builder.lock", "deploy/requirements-builder.lock"),
    )


def sentiment_wheel_or_source() -> Path:
    """The job's wheel that the package holds, else the folder in the checkout to build it from.

    Raises:
        PreflightError: there is neither.
    """
    if wheels := sorted(_BUNDLED.glob("sentiment-*.whl")):
        return wheels[-1]
    return _find("sentiment-*.whl", "job/pyproject.toml").parent


def _find(inside: str, in_checkout: str) -> Path:
    for path in (_BUNDLED / inside, _CHECKOUT / in_checkout):
        if path.exists():
            return path
    raise PreflightError(
        f"this installation is not whole: {inside} is missing",
        where=str(_BUNDLED),
        todo="install sparkbundle anew, from a wheel or with make setup in a checkout",
    )
