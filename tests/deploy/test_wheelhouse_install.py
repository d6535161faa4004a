"""What hosts do with the wheelhouse, by the real scripts and uv."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sparkbundle import resources, wheelhouse
from sparkbundle.wheelhouse_cache import Bundle, locked_cache
from sparkbundle.wheelhouse_lock import Target
from tests.deploy.tiny_wheels import MANY, make_wheel, write_wheel

PYTHON = getattr(sys, "_base_executable", sys.executable)


class Host:
    """A host's directories, and the bundles as the runtime role unpacks them there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.releases, self.wheels, self.cache = (root / n for n in ("releases", "wheels", "cache"))
        self.wheels.mkdir()

    def send(self, **wheels: list[Path]) -> tuple[str, Path, list[Bundle]]:
        with locked_cache(print) as cache:
            cache.fresh_work()
            bundles = [cache.add(name, "0", files) for name, files in wheels.items()]
        digest, text = wheelhouse._requirements(bundles, Target(python=(3, 11), machine="x86_64"))
        requirements = self.root / f"{digest}.txt"
        requirements.write_text(text)
        for bundle in bundles:
            if not (self.wheels / bundle.stamp).exists():
                subprocess.run(["tar", "-xf", bundle.path, "-C", self.wheels], check=True)
        return digest, requirements, bundles

    def install(self, digest: str, requirements: Path, *, code: int = 0) -> str:
        words = [self.releases, digest, self.wheels, requirements, self.cache, PYTHON]
        script = resources.roles() / "runtime/files/install_release.sh"
        done = subprocess.run(
            ["/bin/sh", script, *words],
            # Settings that would lead the installer astray.
            env={"PATH": os.environ["PATH"], "UV_INDEX_URL": "http://x.invalid", "UV_OFFLINE": "0"},
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    def file(self, digest: str, name: str) -> Path:
        (path,) = self.releases.glob(f"{digest}/lib/python*/site-packages/{name}")
        return path


@pytest.fixture(scope="session")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = Path(sys.executable).with_name("uv").read_bytes()
    folder = tmp_path_factory.mktemp("uv")
    return write_wheel(folder, "uv", "1.0", f"py3-none-{MANY}", {"uv-1.0.data/scripts/uv": program})


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "controller"))
    return Host(tmp_path)


def wheels(
    folder: Path, uv: Path, *, own: bytes = b"A = 1\n", rest: str = "1.0", torch: str = "1.0"
) -> dict:
    folder.mkdir(exist_ok=True)
    return {
        "pyspark": [make_wheel(folder, "pyspark", "1.0", more_py=b"MORE = 1\n")],
        "torch": [make_wheel(folder, "torch", torch)],
        "rest": [make_wheel(folder, n, v) for n, v in (("alpha", "1.0"), ("beta", rest))],
        "own": [make_wheel(folder, "sentiment", "0.1.0", own_py=own)],
        "uv": [Path(shutil.copy(uv, folder))],
    }


def test_a_release_is_installed_once_and_shares_files_with_the_next(host: Host, uv: Path):
    digest, requirements, _ = host.send(**wheels(host.root / "made", uv))
    said = host.install(digest, requirements)
    assert re.fullmatch(rf"release {digest}: 5 packages installed in \d+ s\n", said)
    release = host.releases / digest
    assert release.joinpath("spark").resolve() == host.file(digest, "pyspark").resolve()
    assert (release / ".complete").is_file()
    python = release / "bin/python"
    code = "import alpha, beta, sentiment.own, pyspark.more; print(sentiment.own.__cached__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_file(), "bytecode is there before anybody has imported it"
    for path in [release, *release.rglob("*")]:
        assert path.is_symlink() or not path.stat().st_mode & 0o022, path
        assert path.lstat().st_uid == os.geteuid()
    assert not list(host.releases.glob(".install*"))

    before = (release / ".complete").stat()
    assert host.install(digest, requirements) == f"release {digest} is installed\n"
    assert (release / ".complete").stat() == before

    # The job has changed, and one package of the rest: its bundle comes with the others anew.
    second, requirements, bundles = host.send(
        **wheels(host.root / "made", uv, own=b"A = 2\n", rest="1.1")
    )
    assert second != digest
    host.install(second, requirements)
    shared = ["pyspark/more.py", "pyspark/__pycache__/more.*.pyc", "torch/__init__.py",
              "alpha/__init__.py", "alpha/__pycache__/__init__.*.pyc"]  # fmt: skip
    for name in shared:
        assert host.file(digest, name).samefile(host.file(second, name)), name
    for name in ("sentiment/own.py", "sentiment/__pycache__/own.*.pyc", "beta/__init__.py"):
        assert not host.file(digest, name).samefile(host.file(second, name)), name
    # Of the bundles that no release needs any more nothing is left.
    assert {path.name for path in host.wheels.iterdir()} == {
        name for bundle in bundles for name in (bundle.stamp, bundle.directory)
    }
    assert len(list(host.cache.glob("wheels/*/*.whl"))) == 6


def test_what_a_killed_installation_left_is_made_anew(host: Host, uv: Path):
    digest, requirements, _ = host.send(**wheels(host.root / "made", uv))
    (host.releases / digest / "lib").mkdir(parents=True)
    (host.releases / digest / "lib/half").touch()
    (host.releases / ".install.abc").mkdir()
    host.install(digest, requirements)
    assert (host.releases / digest / ".complete").is_file()
    assert not (host.releases / digest / "lib/half").exists()
    assert not (host.releases / ".install.abc").exists()


def test_an_altered_wheel_is_not_installed_and_is_sent_again(host: Host, uv: Path):
    made = wheels(host.root / "made", uv)
    digest, requirements, bundles = host.send(**made)
    (wheel,) = host.wheels.glob("torch-*/torch*.whl")
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    wheel.write_bytes(content)
    said = host.install(digest, requirements, code=1)
    assert f"{bundles[1].directory}/{wheel.name}" in said and "the next run sends it again" in said
    assert not (host.releases / digest).exists()
    assert not (host.wheels / bundles[1].stamp).exists()
    assert (host.wheels / bundles[0].stamp).exists(), "only the damaged one"
    host.send(**wheels(host.root / "made", uv))
    host.install(digest, requirements)


def test_the_installer_itself_checks_hashes(host: Host, uv: Path):
    digest, requirements, _ = host.send(**wheels(host.root / "made", uv))
    text = requirements.read_text()
    requirements.write_text(re.sub(r"(torch==1.0 --hash=sha256:)\w{4}", r"\g<1>0000", text))
    said = host.install(digest, requirements, code=1)
    assert "torch" in said and "the packages cannot be installed" in said
    assert not (host.releases / digest / ".complete").exists()


def test_a_release_without_the_job_is_not_complete(host: Host, uv: Path):
    made = wheels(host.root / "made", uv)
    del made["own"]
    digest, requirements, _ = host.send(**made)
    assert "sentiment\nerror: installed, but" in host.install(digest, requirements, code=1)
    assert not (host.releases / digest / ".complete").exists()


def alias(host: Host, digest: str, name: str) -> str:
    script = resources.roles() / "runtime/files/alias_release.sh"
    command = ["/bin/sh", script, host.releases, digest, name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def torch_of(release: Path) -> str:
    """The version of torch that a job finds which names its Python by this release."""
    code = "import torch, sys; print(torch.VERSION, sys.prefix)"
    done = subprocess.run(
        [release / "bin/python", "-c", code], capture_output=True, text=True, check=True
    )
    version, prefix = done.stdout.split()
    assert prefix == str(release)
    return version


def test_another_build_is_found_under_the_name_of_the_masters_release(host: Host, uv: Path):
    cpu, of_cpu, _ = host.send(**wheels(host.root / "made", uv, torch="1.0+cpu"))
    host.install(cpu, of_cpu)
    cuda, of_cuda, _ = host.send(**wheels(host.root / "made", uv))
    host.install(cuda, of_cuda)
    there, masters = host.releases / cuda, host.releases / cpu
    assert (torch_of(there), torch_of(masters)) == ("1.0", "1.0+cpu")

    # The host had the CPU build before: its release makes room.
    assert alias(host, cuda, cpu) == f"{cpu}: as {cuda}\n"
    assert torch_of(masters) == "1.0"
    assert (masters / "spark/more.py").is_file()
    assert not (masters / ".complete").exists(), "nobody takes it for a release"
    assert alias(host, cuda, cpu) == ""
    assert not list(host.releases.glob(".install*"))

    # The CPU build again: it is installed in the place of the name.
    cpu, of_cpu, _ = host.send(**wheels(host.root / "made", uv, torch="1.0+cpu"))
    host.install(cpu, of_cpu)
    assert (torch_of(there), torch_of(masters)) == ("1.0", "1.0+cpu")
    assert (there / ".complete").is_file()


def prune(place: Path, *kept: str) -> list[str]:
    script = resources.roles() / "runtime/files/prune_releases.sh"
    command = ["/bin/sh", script, place, *kept]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


def test_a_release_stays_while_its_other_name_is_needed(host: Host):
    for digest in ("aa", "bb", "cc"):
        (host.releases / digest / "bin").mkdir(parents=True)
        (host.releases / digest / ".complete").touch()
    alias(host, "aa", "a0")
    alias(host, "bb", "b0")
    assert prune(host.releases, "cc", "a0") == ["b0", "bb"]
    assert (host.releases / "aa/.complete").is_file()
    assert prune(host.releases, "aa", "cc") == ["a0"], "a name alone"
    assert (host.releases / "aa/.complete").is_file()


def test_releases_that_nothing_needs_are_removed(tmp_path: Path):
    names = {name: tmp_path / name for name in ("aa", "bb", "c0", "c1", "c2", "dd", "ee")}
    for release in names.values():
        (release / "lib").mkdir(parents=True)
        (release / ".complete").touch()
        (release / "lib/open").write_bytes(b"x" * 5000)
    (names["ee"] / ".complete").unlink()
    (tmp_path / "notes.txt").touch()
    holders = [
        # As a job is started, as Python holds a library, as Java holds a jar.
        ("import time", os.environ | {"SPARK_HOME": f"{names['c0']}/spark"}),
        (f"import mmap; f = open('{names['c1']}/lib/open'); "
         "m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); f.close()", None),
        (f"f = open('{names['c2']}/lib/open')", None),
    ]  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", f"{code}; print(flush=True); input()"],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for code, env in holders
    ]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline()
        assert prune(tmp_path, "aa", "99") == ["bb", "dd", "ee"]
    finally:
        for process in processes:
            process.communicate(b"\n")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"aa", "c0", "c1", "c2", "notes.txt", ".lock"}
