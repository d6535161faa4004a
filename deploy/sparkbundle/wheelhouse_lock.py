"""Lock files, read for the hosts: which packages a Python on a CPU architecture gets."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from sparkbundle.errors import PreflightError

MACHINES = ("x86_64", "aarch64")
# The builds of torch, a lock each.
BUILDS = CPU, CUDA = ("cpu", "cuda")
# Of Ubuntu 22.04, the oldest system with a Python that Spark takes. Each line of wheels that
# lives today is in this list: older versions of pip do not know that a later C library
# takes the wheels of an earlier one.
_GLIBC = (35, 34, 33, 32, 31, 28, 27, 26, 24, 17, 12, 5)
_NAMED_GLIBC = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True, kw_only=True)
class Target:
    """The hosts that wheels are for: Linux with this CPython and CPU architecture."""

    python: tuple[int, int]
    machine: str

    @property
    def version(self) -> str:
        """Such as "3.11"."""
        return ".".join(map(str, self.python))

    def environment(self) -> dict[str, str]:
        """The values of environment markers there."""
        return {
            "os_name": "posix",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_version": "",
            "implementation_name": "cpython",
            "implementation_version": f"{self.version}.0",
            "python_version": self.version,
            "python_full_version": f"{self.version}.0",
            "extra": "",
        }

    def pip_arguments(self) -> list[str]:
        """What makes pip choose wheels for the target and not for this machine."""
        platforms = []
        for minor in _GLIBC:
            platforms.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _NAMED_GLIBC:
                platforms.append(f"{_NAMED_GLIBC[minor]}_{self.machine}")
        platforms.append(f"linux_{self.machine}")
        chosen = [word for platform in platforms for word in ("--platform", platform)]
        return ["--implementation", "cp", "--python-version", self.version, *chosen]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One package of a lock: its name, its exact version, and the hashes of its files."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def line(self) -> str:
        """The entry as pip and uv read it, without a marker."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash={h}" for h in self.hashes)])


def read_lock(path: Path, target: Target) -> list[Entry]:
    """The entries of a lock file that apply to the target.

    Raises:
        PreflightError: the file cannot be read, or an entry is not a version with its hashes.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise PreflightError(f"cannot be read: {error}", where=str(path), todo=_MEND) from error
    environment = target.environment()
    entries = []
    for block in re.findall(r"^[^\s#].*(?:\n[ \t].*)*", text, flags=re.MULTILINE):
        requirement, hashes = _parsed(block, path)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            version = str(requirement.specifier).removeprefix("==")
            name = canonicalize_name(requirement.name)
            entries.append(Entry(name=name, version=version, hashes=hashes))
    return entries


_MEND = "take the file of the release anew (in a checkout: git checkout, or make lock)"


def _parsed(block: str, path: Path) -> tuple[Requirement, tuple[str, ...]]:
    words = block.replace("\\\n", " ")
    hashes = tuple(sorted(re.findall(r"--hash=(sha256:[0-9a-f]{64})(?=\s|$)", words)))
    written = words.split("--hash=", 1)[0].strip()
    try:
        requirement = Requirement(written)
    except InvalidRequirement as error:
        raise PreflightError(f"{written!r}: {error}", where=str(path), todo=_MEND) from error
    if not hashes or not re.fullmatch(r"==[^,*]+", str(requirement.specifier)):
        raise PreflightError(
            f"{written!r} is not one version with hashes", where=str(path), todo=_MEND
        )
    return requirement, hashes


def lines(entries: Iterable[Entry]) -> str:
    """The entries as a requirements file, sorted."""
    return "".join(f"{line}\n" for line in sorted(entry.line for entry in entries))
