"""The installed layer: what a proven `up` has written on bare machines, kept to begin from.

A layer is made once for all that it depends on (`digest`) and lies outside of the repository. The
machines' disks are overlays: on a layer, a machine begins as deployed as `up` has left it and
starts its daemons when it boots, as after a reboot. With a layer is kept what `up` said and what
the operator's laptop remembers: the host keys, the record of the cluster, the logs.

    test-layers/DIGEST/machines/NAME/   what was written on the machine's disk
                       laptop/state/    the laptop's state directory
                       up.json          what `up` printed
"""

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import box, machines
from tests.cluster.computer import LXC
from tests.cluster.laptop import HOSTS, Cluster, inventory_text
from tests.deploy.conftest import wait_until

REPOSITORY = Path(__file__).parents[2]
# All that decides what `up` writes on hosts, and whether it is proven.
DEPLOYING = (
    *("roles", "deploy/playbooks", "deploy/sparkbundle", "deploy/requirements-builder.lock"),
    *("job/sentiment", "job/notebooks", "job/pyproject.toml"),
    *("job/requirements.lock", "job/requirements-cpu.lock", "job/requirements-cuda.lock"),
    "tests/cluster/Vagrantfile",
)


@dataclass(frozen=True)
class Layer:
    """A complete layer."""

    folder: Path

    @property
    def disks(self) -> Path:
        """The folder with one more folder for each machine: what `up` has written there."""
        return self.folder / "machines"

    @property
    def up(self) -> "subprocess.CompletedProcess[str]":
        """The `up` on bare machines that made it."""
        report = json.loads((self.folder / "up.json").read_text())
        return subprocess.CompletedProcess("up", 0, report["stdout"], report["stderr"])

    @property
    def log(self) -> Path:
        """Ansible's log of that `up`."""
        return max(self.folder.glob("laptop/state/hosts/vagrant/logs/*-up.log"))

    def restore(self, laptop: Cluster) -> None:
        """Put the machines and the laptop back to what they were after that `up`, and wait until
        the daemons, which start when the machines boot, have found each other."""
        machines.fresh(*HOSTS, layer=self.disks)
        laptop.write_inventory()
        state = Path(laptop.env["SPARKBUNDLE_STATE"])
        shutil.rmtree(state, ignore_errors=True)
        shutil.copytree(self.folder / "laptop/state", state, symlinks=True)
        wait_until(laptop.is_healthy, seconds=120)


def directory() -> Path:
    """Where layers are kept."""
    return box.cache().with_name("test-layers")


def digest(home: Path) -> str:
    """The name of the layer that this checkout makes on this box."""
    state = hashlib.sha256(f"{home.name}\0{sys.version}\0{inventory_text()}\0".encode())
    for path in _sources():
        state.update(f"{path.relative_to(REPOSITORY)}\0".encode())
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()[:16]


def _sources() -> Iterator[Path]:
    for name in DEPLOYING:
        path = REPOSITORY / name
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        yield from (file for file in files if file.is_file() and "__pycache__" not in file.parts)


@contextmanager
def claimed() -> Iterator[None]:
    """Have the machines alone: another run of the tests, or of `prepare`, is waited for."""
    directory().mkdir(parents=True, exist_ok=True)
    with (directory() / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another process that uses the test machines …", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure() -> Layer:
    """The layer of this checkout; where there is none, `up` on bare machines makes it.

    Whoever calls this has `claimed` the machines.

    Raises:
        Unavailable: this computer cannot run test machines.
        AssertionError: `up` failed; the message has all that it said.
    """
    machines.install()
    home = box.ensure()
    layer = Layer(directory() / digest(home))
    directory().mkdir(parents=True, exist_ok=True)
    if not layer.folder.exists():
        _make(layer)
    return layer


def _make(layer: Layer) -> None:
    started = time.monotonic()
    print("no installed layer is kept: `up` on bare machines (minutes) …", file=sys.stderr)
    _prune()
    work = layer.folder.with_name(f"{layer.folder.name}.making")
    work.mkdir()
    machines.fresh(*HOSTS)
    with tempfile.TemporaryDirectory(prefix="laptop-") as folder:
        laptop = Cluster(Path(folder))
        report = laptop("up", timeout=900)  # other tests may run beside it
        texts = {"stdout": report.stdout, "stderr": report.stderr}
        (work / "up.json").write_text(json.dumps(texts))
        shutil.copytree(laptop.env["SPARKBUNDLE_STATE"], work / "laptop/state", symlinks=True)
    machines.keep(*HOSTS, into=work / "machines")
    # What the master remembers of its workers: it would wait for them for a minute.
    for path in (work / "machines/master/var/lib/sparkbundle/recovery").iterdir():
        path.unlink()
    work.rename(layer.folder)
    print(f"the installed layer is made: {time.monotonic() - started:.0f} s", file=sys.stderr)


def _prune() -> None:
    """Remove what a killed run left half made, and other layers, of some 10 GB each, that no
    machine is on."""
    configs = "".join(path.read_text() for path in LXC.glob("*/config"))
    for folder in directory().iterdir():
        if folder.is_dir() and f"{folder}/" not in configs:
            shutil.rmtree(folder)
