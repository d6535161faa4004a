"""Everything that hosts install, brought together on this machine: locked wheels, in bundles.

Hosts need no package registry. pyspark, which registries hold as source only, is built here.
A bundle is sent to a host once; one that has not changed since is not sent again.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import parse_wheel_filename

from sparkbundle import resources
from sparkbundle.errors import PreflightError
from sparkbundle.wheelhouse_cache import (
    DIGEST_LENGTH,
    Bundle,
    Cache,
    check_room,
    locked_cache,
)
from sparkbundle.wheelhouse_lock import CPU, CUDA, MACHINES, Entry, Target, lines, read_lock
from sparkbundle.wheelhouse_pip import Builder, NotFoundHereError, Say, make_builder
from sparkbundle.wheelhouse_zip import normalise, sha256_of

__all__ = ["Bundle", "Wheelhouse", "prepare", "prepare_builds"]

_SOURCE_ONLY = "pyspark"
_INSTALLER = "uv"
# What making a bundle takes at its peak, in bytes.
_ROOM = {"pyspark": 2.6e9, "rest": 0.6e9, "torch": 0.8e9, "torch-cuda": 8e9}
# Changes when bundles of the same packages are made in another way.
_MADE = "1"


@dataclass(frozen=True, kw_only=True)
class Wheelhouse:
    """All wheels for hosts of one kind, with one build of torch.

    `digest` names the release: the same wheels give the same digest on every controller.
    `requirements` lists each wheel with its own sha256, for the host's installer, and in
    comments the place of each in its bundle. `size` is that of all bundles, in bytes.
    """

    digest: str
    requirements: Path
    bundles: tuple[Bundle, ...]
    python: tuple[int, int]
    size: int


def prepare(*, python: tuple[int, int], machine: str, cuda: bool, say: Say) -> Wheelhouse:
    """The one wheelhouse of hosts that all get the same build of torch: see `prepare_builds`.

    Raises:
        PreflightError: as `prepare_builds`.
    """
    build = CUDA if cuda else CPU
    return prepare_builds(python=python, machine=machine, builds=[build], say=say)[build]


def prepare_builds(
    *, python: tuple[int, int], machine: str, builds: Collection[str], say: Say
) -> dict[str, Wheelhouse]:
    """Bring together what hosts with this Python and CPU architecture install, by torch's build.

    What is there from an earlier run is checked and used; what a killed run left is made anew.
    The bundle of torch differs, the others are the same. For "cpu" the registry's CUDA build is
    taken where pip finds no CPU build: both builds are one then.

    Raises:
        PreflightError: no network, no wheel for these hosts, a full disk, no venv module; no
            bundle is left half made.
    """
    if machine not in MACHINES:
        raise PreflightError(
            f"there are no packages for the CPU architecture {machine}",
            todo=f"take hosts with one of: {', '.join(MACHINES)}",
        )
    target = Target(python=python, machine=machine)
    with locked_cache(say) as cache:
        maker = _Maker(cache, target)
        try:
            bundles = {build: tuple(maker.bundles(cuda=build == CUDA)) for build in builds}
        finally:
            cache.clear_work()
        houses = {build: _house(cache, found, target) for build, found in bundles.items()}
        # Last: what one of the builds uses again after a long time is to stay.
        cache.remove_unused()
    return houses


def _house(cache: Cache, bundles: tuple[Bundle, ...], target: Target) -> Wheelhouse:
    digest, text = _requirements(bundles, target)
    return Wheelhouse(
        digest=digest,
        requirements=cache.requirements(digest, text),
        bundles=bundles,
        python=target.python,
        size=sum(bundle.size for bundle in bundles),
    )


def _requirements(bundles: Sequence[Bundle], target: Target) -> tuple[str, str]:
    """The digest and the text of the list for the hosts.

    The installer is not installed, and not part of the digest: another one makes no new release.
    """
    wanted, places = [], []
    for bundle in bundles:
        for wheel in bundle.wheels:
            places.append(f"#: {wheel.sha256}  {bundle.directory}/{wheel.file}\n")
            if bundle.name != _INSTALLER:
                name, version, *_ = parse_wheel_filename(wheel.file)
                wanted.append(f"{name}=={version} --hash=sha256:{wheel.sha256}\n")
    content = f"# CPython {target.version}, {target.machine}\n{''.join(sorted(wanted))}"
    digest = hashlib.sha256(content.encode()).hexdigest()[:DIGEST_LENGTH]
    return digest, f"# release {digest}\n{content}{''.join(places)}"


class _Maker:
    """Finds the bundles of a target in the cache, and makes those that are not there."""

    def __init__(self, cache: Cache, target: Target) -> None:
        self._cache = cache
        self._target = target
        self._locks = resources.locks()
        self._tools = read_lock(self._locks.builder, target)
        self._made_builder: Builder | None = None

    def bundles(self, *, cuda: bool) -> list[Bundle]:
        entries = read_lock(self._locks.job, self._target)
        rest = [entry for entry in entries if entry.name != _SOURCE_ONLY]
        return [
            self._pyspark(next(entry for entry in entries if entry.name == _SOURCE_ONLY)),
            self._torch(cuda=cuda),
            self._fetched("rest", rest),
            self._fetched(_INSTALLER, [e for e in self._tools if e.name == _INSTALLER]),
            self._own(resources.sentiment_wheel_or_source()),
        ]

    def _builder(self) -> Builder:
        if self._made_builder is None:
            self._cache.fresh_work()
            self._made_builder = make_builder(
                self._cache.directory / "builder",
                self._build_tools(),
                scratch=self._cache.work,
                log=self._cache.directory / "pip.log",
                say=self._cache.say,
            )
        return self._made_builder

    def _build_tools(self) -> list[Entry]:
        return [entry for entry in self._tools if entry.name != _INSTALLER]

    def _made(
        self, name: str, key: str, make: Callable[[Builder, Path], Sequence[Path]], *, room: float
    ) -> Bundle:
        """The bundle of the cache, or else of the wheels that `make` leaves in a directory."""
        if found := self._cache.find(name, key):
            return found
        check_room(self._cache.directory, needed=int(room))
        builder = self._builder()
        directory = self._cache.work / name
        directory.mkdir()
        wheels = make(builder, directory)
        bundle = self._cache.add(name, key, list(wheels))
        shutil.rmtree(directory)
        return bundle

    def _fetched(self, name: str, entries: Sequence[Entry], *, room: str = "") -> Bundle:
        def make(builder: Builder, directory: Path) -> list[Path]:
            count = f"{len(entries)} packages" if len(entries) > 1 else entries[0].name
            self._cache.say(f"fetching {count}")
            builder.download(entries, self._target, directory / "wheels")
            return list((directory / "wheels").iterdir())

        key = self._fetched_key(name, entries)
        return self._made(name, key, make, room=_ROOM.get(room or name, 0.2e9))

    def _fetched_key(self, name: str, entries: Sequence[Entry]) -> str:
        return _key(name, self._target.version, self._target.machine, lines(entries))

    def _torch(self, *, cuda: bool) -> Bundle:
        """The CPU build where it is wanted and pip finds it, else the registry's."""
        cpu = read_lock(self._locks.cpu, self._target)
        registry = read_lock(self._locks.cuda, self._target)
        asked = _key(self._target.version, self._target.machine, lines(cpu), _pip_settings())
        absent = self._cache.absent("torch", asked)
        if not cuda and not absent.is_file():
            try:
                return self._fetched("torch", cpu)
            except PreflightError as error:
                if isinstance(error, NotFoundHereError) and self._made_builder:
                    self._cache.say(
                        "pip finds no CPU build of torch for these hosts: "
                        "taking the CUDA build (some GB)"
                    )
                    # Not asked again until pip is configured in another way.
                    absent.touch()
                    shutil.rmtree(self._cache.work / "torch")
                elif self._cache.find("torch", self._fetched_key("torch", registry)):
                    # Bundles that were made elsewhere and brought here, where pip has no network.
                    self._cache.say("pip cannot look for torch: taking the CUDA build that is here")
                else:
                    raise
        return self._fetched("torch", registry, room="torch-cuda")

    def _pyspark(self, entry: Entry) -> Bundle:
        def make(builder: Builder, directory: Path) -> list[Path]:
            self._cache.say(f"fetching the source of {entry.name} {entry.version} (some 450 MB)")
            source = builder.download_source(entry, directory / "source")
            self._cache.say(f"building {entry.name}'s wheel (about half a minute, once)")
            return [_built(builder, source, directory)]

        key = _key("pyspark", entry.line, lines(self._build_tools()))
        return self._made("pyspark", key, make, room=_ROOM["pyspark"])

    def _own(self, given: Path) -> Bundle:
        """The job: the wheel that sparkbundle brings along, or built from the checkout."""

        def make(builder: Builder, directory: Path) -> list[Path]:
            if given.is_dir():
                self._cache.say("building the wheel of the job")
                return [_built(builder, _copied(given, directory / "source"), directory)]
            return [_normal(given, directory)]

        if given.is_dir():
            content = "".join(f"{path}\0{sha256_of(given / path)}\n" for path in _sources(given))
            key = _key("own", content, lines(self._build_tools()))
        else:
            key = _key("own", given.name, sha256_of(given))
        return self._made("own", key, make, room=0.1e9)


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join([_MADE, *parts]).encode()).hexdigest()[:DIGEST_LENGTH]


def _built(builder: Builder, source: Path, directory: Path) -> Path:
    built = builder.build(source, directory / "built")
    if source.is_file():
        source.unlink()  # half a gigabyte that is not needed any more
    return _normal(built, directory)


def _normal(wheel: Path, directory: Path) -> Path:
    if not wheel.name.endswith("-none-any.whl"):
        raise PreflightError(
            f"{wheel.name} came out as a wheel for this machine only",
            todo="report it: it should be one for every machine",
        )
    into = directory / "wheels"
    into.mkdir()
    normalise(wheel, into / wheel.name)
    return into / wheel.name


def _sources(root: Path) -> list[Path]:
    """What the job's wheel is built from, relative to its folder, sorted."""
    python = (path.relative_to(root) for path in root.glob("sentiment/**/*"))
    kept = [
        path
        for path in python
        if (root / path).is_file() and not any(part in _SKIPPED for part in path.parts)
    ]
    return sorted([*kept, Path("pyproject.toml")])


_SKIPPED = {"__pycache__", ".ipynb_checkpoints"}


def _copied(root: Path, into: Path) -> Path:
    """A copy of the sources: a build writes beside what it builds."""
    for path in _sources(root):
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, into / path)
    return into


def _pip_settings() -> str:
    """All that may say where pip looks for packages."""
    xdg = os.environ.get("XDG_CONFIG_HOME")
    config = Path(xdg) if xdg else Path.home() / ".config"
    files = [config / "pip/pip.conf", Path.home() / ".pip/pip.conf", Path("/etc/pip.conf")]
    files += [Path(directory) / "pip/pip.conf" for directory in _system_directories()]
    if named := os.environ.get("PIP_CONFIG_FILE"):
        files.append(Path(named))
    texts = [path.read_text(errors="replace") for path in files if path.is_file()]
    variables = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith("PIP_")]
    return "\0".join([*texts, *variables])


def _system_directories() -> list[str]:
    return (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
