"""The wheelhouse, made with the real pip and tar from packages of some hundred bytes."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from sparkbundle import resources, wheelhouse, wheelhouse_cache, wheelhouse_pip
from sparkbundle.errors import PreflightError
from sparkbundle.wheelhouse import Wheelhouse
from sparkbundle.wheelhouse_lock import Entry, Target, read_lock
from sparkbundle.wheelhouse_zip import sha256_of
from tests.deploy.tiny_wheels import MANY, TinyWorld, make_wheel, make_world

NAMES = ["pyspark", "torch", "rest", "uv", "own"]


class House:
    """A world, a cache and what was said."""

    def __init__(self, world: TinyWorld, cache: Path) -> None:
        self.world = world
        self.cache = cache / "sparkbundle" / "wheelhouse"
        self.said: list[str] = []

    def prepare(self, python=(3, 11), machine="x86_64", *, cuda=False) -> Wheelhouse:
        self.said.clear()
        return wheelhouse.prepare(python=python, machine=machine, cuda=cuda, say=self.said.append)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.cache.iterdir())


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world and a cache that was filled from it, both only to be copied."""
    root = tmp_path_factory.mktemp("filled")
    world = make_world(root / "world")
    with pytest.MonkeyPatch.context() as patch:
        world.use(patch, root / "cache")
        House(world, root / "cache").prepare()
    return root


@pytest.fixture
def house(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """The filled cache in a place of its own, for a test to change."""

    def but_for_builder(folder: str, _: list[str]) -> set[str]:
        return {"builder"} if Path(folder).name == "wheelhouse" else set()

    shutil.copytree(filled, tmp_path, symlinks=True, dirs_exist_ok=True, ignore=but_for_builder)
    builder = "cache/sparkbundle/wheelhouse/builder"  # no test writes into its thousand files
    (tmp_path / builder).symlink_to(filled / builder)
    world = TinyWorld(tmp_path / "world")
    world.use(monkeypatch, tmp_path / "cache")
    return House(world, tmp_path / "cache")


@pytest.fixture
def empty(house: House) -> House:
    """A cache without bundles; the environment to build with is there."""
    shutil.rmtree(house.cache / "bundles")
    shutil.rmtree(house.cache / "requirements")
    return house


def members(tar: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(tar) as file:
        return file.getmembers()


def test_all_wheels_are_in_bundles_and_listed_with_their_hashes(house: House, tmp_path: Path):
    made = house.prepare()
    assert [bundle.name for bundle in made.bundles] == NAMES
    assert made.size == sum(bundle.path.stat().st_size for bundle in made.bundles)
    text = made.requirements.read_text()
    for bundle in made.bundles:
        directory, *wheels, stamp = members(bundle.path)
        assert directory.isdir() and directory.name == f"{bundle.name}-{bundle.digest}"
        assert stamp.name == f".bundle-{directory.name}" and stamp.size == 0
        with tarfile.open(bundle.path) as tar:
            tar.extractall(tmp_path / "out", filter="data")
        for wheel in wheels:
            assert f"#: {sha256_of(tmp_path / 'out' / wheel.name)}  {wheel.name}\n" in text
    installed = [line for line in text.splitlines() if not line.startswith("#")]
    names = [line.split("==")[0] for line in installed]
    assert names == ["alpha", "beta", "pyspark", "sentiment", "torch"]
    assert "torch==1.0+cpu --hash=sha256:" in text and "beta==1.0 " in text
    assert not list(house.cache.rglob("*.whl")), "only the tars are kept"
    assert house.names() == ["builder", "bundles", "lock", "pip.log", "requirements"]


def test_another_controller_makes_the_same_bytes(empty: House, filled: Path):
    before = os.umask(0o077)
    try:
        shutil.copytree(empty.world.job, empty.world.job.with_name("elsewhere"))
        shutil.rmtree(empty.world.job)
        empty.world.job.with_name("elsewhere").rename(empty.world.job)
        made = empty.prepare()
    finally:
        os.umask(before)
    theirs = filled / "cache/sparkbundle/wheelhouse"
    assert (theirs / f"requirements/{made.digest}.txt").is_file()
    for bundle in made.bundles:
        assert bundle.path.read_bytes() == (theirs / "bundles" / bundle.path.name).read_bytes()


def test_what_is_there_is_used(house: House, monkeypatch: pytest.MonkeyPatch):
    first = house.prepare()
    monkeypatch.setattr(wheelhouse_pip, "run_pip", None)
    started = time.monotonic()
    assert house.prepare() == first
    assert time.monotonic() - started < 0.5
    assert house.said == []


def test_a_change_of_the_job_makes_only_its_bundle(house: House):
    before = house.prepare()
    (house.world.job / "sentiment/__init__.py").write_text("A = 2\n")
    after = house.prepare()
    assert house.said == ["building the wheel of the job"]
    assert after.digest != before.digest
    assert after.bundles[:4] == before.bundles[:4] and after.bundles[4] != before.bundles[4]
    assert not (house.world.job / "build").exists(), "a build leaves the sources alone"


def test_the_job_of_an_installed_sparkbundle_is_a_wheel(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    wheel = make_wheel(tmp_path, "sentiment", "0.1.0")
    before = house.prepare()
    monkeypatch.setattr(resources, "sentiment_wheel_or_source", lambda: wheel)
    monkeypatch.setattr(wheelhouse_pip, "run_pip", None)
    after = house.prepare()
    assert after.bundles[:4] == before.bundles[:4]
    assert [w.file for w in after.bundles[4].wheels] == [wheel.name]
    assert wheel.is_file(), "it stays in the package"


def flip(path: Path) -> None:
    """Change one byte in the middle, and set the times back as they were."""
    now = path.stat()
    with path.open("r+b") as file:
        file.seek(now.st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns))


def test_an_altered_bundle_is_made_again(house: House):
    before = house.prepare()
    torch = before.bundles[1]
    content = torch.path.read_bytes()
    flip(torch.path)
    assert house.prepare() == before
    assert house.said == [
        "the bundle torch was altered in the cache: making it again", "fetching torch",
    ]  # fmt: skip
    assert torch.path.read_bytes() == content


def test_a_bundle_that_was_only_touched_is_kept(house: House):
    before = house.prepare()
    for bundle in before.bundles:
        bundle.path.touch()
    assert house.prepare() == before
    assert house.said == []


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": 0}', None])
def test_a_damaged_or_half_cache_is_mended(house: House, damage: str | None):
    before = house.prepare()
    (record,) = house.cache.glob("bundles/own-*.json")
    if damage is None:
        before.bundles[4].path.unlink()
    else:
        record.write_text(damage)
    assert house.prepare() == before
    assert len(house.said) == 2


def test_an_altered_wheel_is_refused_by_its_name(house: House):
    rest = house.prepare().bundles[2]
    rest.path.unlink()
    flip(house.world.link("alpha-*"))
    with pytest.raises(PreflightError, match=r"alpha==1\.0.*sha256") as caught:
        house.prepare()
    assert caught.value.where == str(house.cache / "pip.log")
    assert "pip config list" in caught.value.todo
    assert not list(house.cache.glob("bundles/rest-*")) and not (house.cache / "work").exists()


def test_a_platform_without_a_wheel_is_named(house: House):
    with pytest.raises(PreflightError, match=r"torch==1\.0 for Python 3\.13 on x86_64"):
        house.prepare((3, 13))
    with pytest.raises(PreflightError, match="CPU architecture riscv64"):
        house.prepare(machine="riscv64")


def test_the_cuda_build_is_taken_where_pip_finds_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    made = house.prepare((3, 12))
    assert any("taking the CUDA build" in line for line in house.said)
    assert {wheel.file.split("-")[1] for wheel in made.bundles[1].wheels} == {"1.0"}
    assert len(made.bundles[1].wheels) == 2
    assert "beta==2.0" in made.requirements.read_text()
    assert house.prepare((3, 12)) == made and house.said == [], "pip is not asked again"
    # … until it is configured in another way.
    more = house.cache.parent / "more"
    more.mkdir()
    wheel = make_wheel(more, "torch", "1.0+cpu", tag=f"cp312-cp312-{MANY}")
    cpu = house.world.locks / "cpu"
    cpu.write_text(cpu.read_text().rstrip() + f" --hash=sha256:{sha256_of(wheel)}\n")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{house.world.links} {more}")
    assert "torch==1.0+cpu" in house.prepare((3, 12)).requirements.read_text()


def test_the_cuda_build_is_taken_where_it_is_wanted(house: House):
    before = house.prepare()
    after = house.prepare(cuda=True)
    assert "torch==1.0 --hash" in after.requirements.read_text()
    assert [b for b in after.bundles if b not in before.bundles] == [after.bundles[1]]


@pytest.mark.parametrize("python", [(3, 11), (3, 12)])  # with the CPU build, and without
def test_bundles_are_brought_to_a_machine_without_network(
    house: House, python: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = house.prepare(python)
    other = House(house.world, tmp_path / "other")
    shutil.copytree(house.cache / "bundles", other.cache / "bundles")
    for mark in other.cache.rglob("*.absent"):
        mark.unlink()  # it stands for the settings of the other machine
    house.world.use(monkeypatch, tmp_path / "other")
    _without_venv(tmp_path, monkeypatch)  # pip is of no use there
    there = other.prepare(python)
    assert there.digest == made.digest
    assert there.requirements.read_text() == made.requirements.read_text()
    assert (other.said == []) is (python == (3, 11))


def test_both_builds_share_all_bundles_but_torchs(house: House):
    words = {"python": (3, 11), "machine": "x86_64", "say": house.said.append}
    both = wheelhouse.prepare_builds(builds=["cpu", "cuda"], **words)
    assert both == {"cpu": house.prepare(), "cuda": house.prepare(cuda=True)}
    shared = [one for one in both["cpu"].bundles if one in both["cuda"].bundles]
    assert [one.name for one in shared] == ["pyspark", "rest", "uv", "own"]
    assert both["cpu"].digest != both["cuda"].digest
    assert len(list(house.cache.glob("bundles/*.tar"))) == len(NAMES) + 1


@pytest.mark.parametrize("builds", [["cpu", "cuda"], ["cuda", "cpu"]])
def test_a_build_that_is_used_after_long_is_not_removed_for_the_other(
    house: House, monkeypatch: pytest.MonkeyPatch, builds: list[str]
):
    words = {"python": (3, 11), "machine": "x86_64", "say": house.said.append}
    made = wheelhouse.prepare_builds(builds=builds, **words)
    long_ago = time.time() - (wheelhouse_cache.UNUSED_DAYS + 1) * 24 * 3600
    for path in [*house.cache.glob("bundles/*.json"), *house.cache.glob("requirements/*")]:
        os.utime(path, (long_ago, long_ago))
    monkeypatch.setattr(wheelhouse_pip, "run_pip", None)
    assert wheelhouse.prepare_builds(builds=builds, **words) == made
    for one in made.values():
        assert one.requirements.is_file() and all(bundle.path.is_file() for bundle in one.bundles)


def test_two_builds_that_pip_finds_one_of_are_one(house: House):
    words = {"python": (3, 12), "machine": "x86_64", "say": house.said.append}
    both = wheelhouse.prepare_builds(builds=["cpu", "cuda"], **words)
    assert both["cpu"] == both["cuda"]


DRIVER = """
import sys
from pathlib import Path
import pytest
from sparkbundle import wheelhouse
from tests.deploy.tiny_wheels import MANY, TinyWorld, make_wheel, make_world
with pytest.MonkeyPatch.context() as patch:
    TinyWorld(Path(sys.argv[1]) / "world").use(patch, Path(sys.argv[1]) / "cache")
    made = wheelhouse.prepare(
        python=(3, 11), machine="x86_64", cuda=False, say=lambda line: print(line, flush=True)
    )
print(made.digest)
"""


def start(house: House) -> "subprocess.Popen[str]":
    root = house.cache.parents[2]
    command = [sys.executable, "-c", DRIVER, str(root)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )


def read_until(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdout is not None
    assert any(word in line for line in process.stdout), f"it never said {word!r}"


def test_a_killed_run_is_taken_up_where_it_was(empty: House):
    process = start(empty)
    read_until(process, "fetching 2 packages")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    made = {path.name.split("-")[0] for path in empty.cache.glob("bundles/*.tar")}
    assert made == {"pyspark", "torch"}
    house_again = empty.prepare()
    assert not any("pyspark" in line for line in empty.said)
    assert [bundle.name for bundle in house_again.bundles] == NAMES
    assert not (empty.cache / "work").exists()


def test_two_runs_at_once_wait_for_each_other(empty: House):
    first = start(empty)
    read_until(first, "fetching")
    second = start(empty)
    ours, theirs = second.communicate(timeout=60)[0].splitlines(), first.communicate()[0]
    assert "waiting" in ours[0] and len(ours) == 2
    assert ours[1] == theirs.splitlines()[-1]
    assert first.returncode == second.returncode == 0


def test_what_no_run_has_used_for_long_is_removed(house: House):
    old = house.prepare(cuda=True)
    long_ago = time.time() - (wheelhouse_cache.UNUSED_DAYS + 1) * 24 * 3600
    for path in [*house.cache.glob("bundles/*.json"), *house.cache.glob("requirements/*")]:
        os.utime(path, (long_ago, long_ago))
    made = house.prepare()
    kept = {bundle.path for bundle in made.bundles}
    assert set(house.cache.glob("bundles/*.tar")) == kept
    assert not old.requirements.exists() and made.requirements.is_file()
    assert len(list(house.cache.glob("bundles/*.json"))) == len(kept)


def test_a_python_without_venv_says_what_to_install(
    empty: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (empty.cache / "builder").unlink()
    _without_venv(tmp_path, monkeypatch)
    with pytest.raises(PreflightError, match="no venv module") as caught:
        empty.prepare()
    assert "-venv" in caught.value.todo


def _without_venv(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = folder / "python"
    python.write_text("#!/bin/sh\necho 'ensurepip is not available' >&2; exit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))


def test_a_full_disk_is_named(empty: House, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage("/")._replace(free=10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(PreflightError, match=r"1\.0 GB free, 2\.6 GB needed") as caught:
        empty.prepare()
    assert "XDG_CACHE_HOME" in caught.value.todo


@pytest.mark.parametrize(
    ("printed", "what"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "the disk is full"),
        ("WARNING: Retrying … NewConnectionError …\nERROR: No matching distribution found for x",
         "does not reach its package registry"),
        ("ERROR: No matching distribution found for x==1", "finds no x==1"),
        ("ERROR: Cannot install x===1 because these package versions have conflicting dependencies."
         "\n\nERROR: ResolutionImpossible: for help visit …", "finds no x==1"),
        ("ERROR: Something else\n", "pip failed: ERROR: Something else"),
    ],
)  # fmt: skip
def test_what_pip_says_is_explained(house: House, printed: str, what: str):
    pip = house.cache / "pip"
    pip.write_text(f"#!/bin/sh\ncat <<'END'\n{printed}\nEND\nexit 1\n")
    pip.chmod(0o755)
    with pytest.raises(PreflightError, match=what) as caught:
        wheelhouse_pip.run_pip(
            pip, ["x"], scratch=house.cache, log=house.cache / "log", say=house.said.append
        )
    assert caught.value.todo
    assert printed in (house.cache / "log").read_text()


@pytest.mark.parametrize("python", [(3, 11), (3, 12), (3, 13)])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_locks_of_this_release_give_each_package_once(python: tuple[int, int], machine: str):
    locks = resources.locks()
    target = Target(python=python, machine=machine)
    for torch in (locks.cpu, locks.cuda):
        entries = read_lock(locks.job, target) + read_lock(torch, target)
        names = [entry.name for entry in entries]
        assert len(names) == len(set(names))
        assert {"pyspark", "torch", "numpy", "gensim"} <= set(names)
    assert {e.name for e in read_lock(locks.builder, target)} >= {"setuptools", "wheel", "uv"}


def test_markers_are_those_of_the_hosts(tmp_path: Path):
    lock = tmp_path / "lock"
    one = "--hash=sha256:" + "1" * 64
    lock.write_text(
        f"# a comment\nA_b==1 ; platform_machine == 'aarch64' \\\n    {one}\n"
        f"c==2 ; python_full_version >= '3.12' and sys_platform == 'linux' {one}\n"
        f"d==3 ; platform_python_implementation == 'PyPy' {one}\n"
    )
    found = {
        (python, machine): [
            entry.name for entry in read_lock(lock, Target(python=python, machine=machine))
        ]
        for python in ((3, 11), (3, 12))
        for machine in ("x86_64", "aarch64")
    }
    assert found == {
        ((3, 11), "x86_64"): [], ((3, 11), "aarch64"): ["a-b"],
        ((3, 12), "x86_64"): ["c"], ((3, 12), "aarch64"): ["a-b", "c"],
    }  # fmt: skip
    assert Entry(name="c", version="2", hashes=("sha256:x",)).line == "c==2 --hash=sha256:x"


@pytest.mark.parametrize(
    "text", ["a==1\n", "a>=1 --hash=sha256:" + "1" * 64, "a ==\n", "a==1 --hash=md5:1"]
)
def test_a_lock_without_versions_or_hashes_is_refused(tmp_path: Path, text: str):
    lock = tmp_path / "lock"
    lock.write_text(text)
    with pytest.raises(PreflightError) as caught:
        read_lock(lock, Target(python=(3, 11), machine="x86_64"))
    assert caught.value.where == str(lock)
