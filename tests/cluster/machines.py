"""The test machines: bare Debian hosts that a test or a person brings up, breaks and renews.

    python -m tests.cluster.machines up [NAME …]       create or resume (default: DEFAULT)
    python -m tests.cluster.machines status
    python -m tests.cluster.machines ssh NAME [CMD …]
    python -m tests.cluster.machines fresh NAME …      bare again, in seconds
    python -m tests.cluster.machines halt [NAME …] | remove NAME … | destroy

Vagrant creates them as LXC containers. What only LXC can do (kill, freeze, reset), and what must be
fast, goes to LXC itself. Every function begins from whatever an earlier, perhaps killed, run left.
"""

import argparse
import contextlib
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import box
from tests.cluster.computer import (
    BRIDGE,
    LXC,
    Unavailable,
    ensure_bridge,
    install,
    output,
    state,
    stop_bridge,
    succeeds,
    try_overlay,
)

HERE = Path(__file__).parent
USER = "vagrant"
SPARE = "worker-3"
DEBIAN_13 = "trixie"
ROOT_OF_CONFIG = r"(?m)^lxc\.rootfs\.path = overlay:(.*)$"


class MachineError(Exception):
    """A test machine did not do what it was told."""


@dataclass(frozen=True)
class Machine:
    name: str
    address: str

    @property
    def container(self) -> str:
        return f"sparkbundle-{self.name}"

    @property
    def suite(self) -> str:
        """Its Debian: a machine that has the name of a release has that release."""
        return self.name if self.name in box.SUITES else box.DEFAULT_SUITE

    @property
    def interface(self) -> str:
        """Its end of the cable on this computer."""
        return f"sb-{self.name}"

    @property
    def disk(self) -> Path:
        """What was written on the machine since it was bare: the upper layer of an overlay."""
        return LXC / self.container / "disk"

    @property
    def ready(self) -> Path:
        """Written when the machine is complete; says what it was made from."""
        return state() / f"{self.name}.ready"


def _read_vagrantfile() -> dict[str, Machine]:
    pairs = re.findall(r'"(\S+)"\s+=>\s+"(10\.\S+)"', (HERE / "Vagrantfile").read_text())
    return {name: Machine(name, address) for name, address in pairs}


MACHINES = _read_vagrantfile()
DEFAULT = tuple(name for name in MACHINES if name not in {SPARE, DEBIAN_13})


# ---------------------------------------------------------------- where things are


def address(name: str) -> str:
    return MACHINES[name].address


def private_key() -> Path:
    """Vagrant's published, insecure key, readable by its owner only, as ssh wants it."""
    return box.insecure_key()


# ---------------------------------------------------------------- the machines


def up(names: Iterable[str] = DEFAULT) -> None:
    """Create, start or resume the machines, and return when all of them answer."""
    chosen = _chosen(names)
    install()
    homes = _homes(chosen)
    with _alone():
        try_overlay()
        ensure_bridge()
        heal()
        missing = [machine for machine in chosen if not _complete(machine, homes[machine.suite])]
        for suite, home in homes.items():
            if group := [machine for machine in missing if machine.suite == suite]:
                _create(group, home)
        _each(_resume, [machine for machine in chosen if machine not in missing])
        _each(_wait_for_ssh, chosen)
        for machine in missing:
            machine.ready.write_text(_origin(homes[machine.suite]))


def _homes(machines: Iterable[Machine]) -> dict[str, Path]:
    """The Vagrant home with the box of each release that the machines need, built if missing."""
    return {suite: box.ensure(suite) for suite in sorted({machine.suite for machine in machines})}


def _create(machines: list[Machine], home: Path) -> None:
    """Have Vagrant make the machines. A second try starts without what Vagrant remembers."""
    words = ("up", "--provider", "lxc", *(machine.name for machine in machines))
    _each(_demolish, machines)
    try:
        _vagrant(home, *words)
    except box.BuildError as error:
        print(f"once more, because {error}", file=sys.stderr)
        _each(_demolish, machines)
        shutil.rmtree(home / "data" / "machine-index", ignore_errors=True)
        _vagrant(home, *words)


def _alone() -> contextlib.AbstractContextManager[None]:
    """One process at a time makes or removes machines: their names are the computer's."""
    return box.locked(box.cache() / "machines.lock")


def halt(names: Iterable[str] = MACHINES) -> None:
    """Shut the machines down in good order."""
    _each(_halt, [m for m in _chosen(names) if condition(m.name) not in {"absent", "STOPPED"}])


def remove(*names: str) -> None:
    """Remove these machines, as `destroy` removes all."""
    with _alone():
        _each(_demolish, _chosen(names))


def destroy() -> None:
    """Remove every machine and whatever else `up` made, except the box in its cache."""
    if not shutil.which("lxc-ls"):
        return
    with _alone():
        heal()
        _each(_demolish, list(MACHINES.values()))
        stop_bridge()
        shutil.rmtree(state(), ignore_errors=True)
        for index in box.cache().glob("*/data/machine-index"):
            shutil.rmtree(index)


def fresh(*names: str, layer: Path | None = None) -> None:
    """Make the machines bare again, as if newly installed. Creates those that are absent.

    With `layer`, a folder with what `keep` took from each of them, they are as they were then.
    """
    install()
    chosen = _chosen(names)
    homes = _homes(chosen)
    absent = [m.name for m in chosen if not _complete(m, homes[m.suite])]
    if absent:
        up(absent)

    def reset(machine: Machine) -> None:
        _empty_disk(machine)
        _stack(machine, layer)
        if layer is None:
            # What Vagrant's hostname step does to a machine that it creates.
            etc = machine.disk / "etc"
            etc.mkdir()
            (etc / "hostname").write_text(f"{machine.name}\n")
            hosts = (_below(machine)[-1] / "etc/hosts").read_text()
            (etc / "hosts").write_text(f"{hosts}127.0.1.1\t{machine.name}\n")
        start(machine.name)

    kept = absent if layer is None else []
    with _alone():
        ensure_bridge()
        heal()
        _each(reset, [machine for machine in _chosen(names) if machine.name not in kept])


def keep(*names: str, into: Path) -> None:
    """Shut the machines down and move what was written on them to `into`, as a layer.

    They are of no use until `fresh`.
    """

    def move(machine: Machine) -> None:
        _halt(machine)
        # A rename, or where the cache is on another file system a copy with devices and attributes.
        box.run("mv", machine.disk, into / machine.name)
        machine.disk.mkdir()

    with _alone():
        into.mkdir(parents=True)
        _each(move, _chosen(names))


def _below(machine: Machine) -> list[Path]:
    """The layers below the machine's disk, the uppermost first, the box last."""
    text = (LXC / machine.container / "config").read_text()
    *below, _ = re.findall(ROOT_OF_CONFIG, text)[-1].split(":")
    return [Path(path) for path in below]


def _stack(machine: Machine, layer: Path | None) -> None:
    """Have the machine's disk lie on the box, or on a layer on the box, from its next start on."""
    below = [*([layer / machine.name] if layer else []), _below(machine)[-1]]
    root = ":".join(map(str, [*below, machine.disk]))
    config = LXC / machine.container / "config"
    text = re.sub(ROOT_OF_CONFIG, f"lxc.rootfs.path = overlay:{root}", config.read_text())
    aside = config.with_suffix(".aside")
    aside.write_text(text)
    aside.rename(config)


def _empty_disk(machine: Machine) -> None:
    """Pull the plug and give the machine an empty disk."""
    force_stop(machine.name)
    folder = machine.disk.parent
    trash = folder / f"trash-{time.time_ns()}"
    trash.mkdir()
    for layer in (machine.disk, folder / "olwork"):  # LXC's name for overlay's work folder
        if layer.exists():
            layer.rename(trash / layer.name)
    # Removing takes a while; nobody has to wait for it.
    subprocess.Popen(["rm", "-rf", trash], start_new_session=True, stderr=subprocess.DEVNULL)
    machine.disk.mkdir()


def condition(name: str) -> str:
    """RUNNING, STOPPED, FROZEN …, or absent."""
    if not (LXC / MACHINES[name].container / "config").exists():
        return "absent"
    return output("lxc-info", "-n", MACHINES[name].container, "-sH").strip() or "absent"


def start(name: str) -> None:
    _resume(MACHINES[name])
    _wait_for_ssh(MACHINES[name])


def force_stop(name: str) -> None:
    """Pull the plug."""
    container = MACHINES[name].container
    if condition(name) == "FROZEN":
        _lxc("lxc-unfreeze", "-n", container)
    if condition(name) not in {"absent", "STOPPED"}:
        _lxc("lxc-stop", "-k", "-n", container)


def freeze(name: str) -> None:
    """Stop every process where it stands: the host answers nothing and closes nothing."""
    _lxc("lxc-freeze", "-n", MACHINES[name].container)


def unfreeze(name: str) -> None:
    _lxc("lxc-unfreeze", "-n", MACHINES[name].container)


def ssh_command(name: str) -> list[str]:
    """The ssh client's command line, up to and including the destination."""
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "ConnectTimeout": "5",
        "ServerAliveInterval": "10",
        # A machine that is made anew has new host keys; nothing secret goes to a test machine.
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    return ["ssh", "-F", "/dev/null", "-i", str(private_key()), *words, f"{USER}@{address(name)}"]


def ssh(
    name: str, command: str, *, check: bool = True, timeout: float = 300, given: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a shell command on the machine as its ordinary user, who may sudo without a password."""
    words = [*ssh_command(name), command]
    stdin = {"input": given} if given is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=timeout, check=False, **stdin
    )
    if check and done.returncode:
        raise MachineError(
            f"{name}: {command!r}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done


def attach(
    name: str, command: str, *, check: bool = True, timeout: float = 300
) -> "subprocess.CompletedProcess[str]":
    """Run a shell command on the machine as root, without its network: its console."""
    words = ["lxc-attach", "--clear-env", "-n", MACHINES[name].container, "--", "sh", "-c", command]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if check and done.returncode:
        raise MachineError(
            f"{name}: {command!r}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done


def journal(name: str, lines: int = 400) -> str:
    """The end of the machine's journal, whether it runs or not. For the report of a failed test."""
    words = f"journalctl --no-pager --boot --lines={lines}"
    match condition(name):
        case "absent":
            return f"{name} does not exist"
        case "RUNNING":
            return attach(name, words, check=False).stdout
        case "FROZEN":
            return f"{name} is frozen"
        case _:
            folder = MACHINES[name].disk / "var/log/journal"
            return output("journalctl", "--no-pager", f"--directory={folder}", f"--lines={lines}")


# ---------------------------------------------------------------- faults


@contextlib.contextmanager
def cut(name: str) -> Iterator[None]:
    """Drop all packets between this computer and the machine; the machines still see each other."""
    rules = [("OUTPUT", "-d", address(name)), ("INPUT", "-s", address(name))]
    with _dropped(rules):
        yield


@contextlib.contextmanager
def small_disk(name: str, path: str, mebibytes: int) -> Iterator[None]:
    """Mount a small, empty file system there, to be filled. Gone after a reboot."""
    quoted = shlex.quote(path)
    mount = f"mkdir -p {quoted} && mount -t tmpfs -o size={mebibytes}m,mode=0755 small {quoted}"
    attach(name, mount)
    try:
        yield
    finally:
        attach(name, f"umount --lazy {quoted}", check=False)


MARK = ("-m", "comment", "--comment", "sparkbundle-test", "-j", "DROP")


@contextlib.contextmanager
def _dropped(rules: Iterable[tuple[str, ...]]) -> Iterator[None]:
    try:
        for chain, *match in rules:
            box.run("iptables", "-w", "-I", chain, *match, *MARK)
        yield
    finally:
        for chain, *match in rules:
            succeeds("iptables", "-w", "-D", chain, *match, *MARK)


def heal() -> None:
    """Remove the packet filters of faults that a killed run left."""
    for line in output("iptables", "-w", "-S").splitlines():
        if "sparkbundle-test" in line and line.startswith("-A "):
            succeeds("iptables", "-w", "-D", *shlex.split(line)[1:])


# ---------------------------------------------------------------- helpers


def _chosen(names: Iterable[str]) -> list[Machine]:
    unknown = [name for name in names if name not in MACHINES]
    if unknown:
        raise MachineError(f"no such machine: {', '.join(unknown)} (known: {', '.join(MACHINES)})")
    return [MACHINES[name] for name in names]


def _complete(machine: Machine, home: Path) -> bool:
    """Whether it was created to the end, from today's box and Vagrantfile, and still exists."""
    if not machine.ready.exists() or machine.ready.read_text() != _origin(home):
        return False
    if not (LXC / machine.container / "config").exists() or not machine.disk.exists():
        return False
    return all(path.exists() for path in _below(machine))


def _origin(home: Path) -> str:
    """What machines are made from: the box and the Vagrantfile."""
    return f"{home.name} {hashlib.sha256((HERE / 'Vagrantfile').read_bytes()).hexdigest()}"


def _resume(machine: Machine) -> None:
    """Bring an existing machine to the state RUNNING, on the bridge."""
    if condition(machine.name) == "FROZEN":
        unfreeze(machine.name)
    plugged = Path("/sys/class/net", BRIDGE, "brif", machine.interface).exists()
    if condition(machine.name) == "RUNNING" and not plugged:  # the bridge was made anew
        force_stop(machine.name)
    if condition(machine.name) != "RUNNING":
        _lxc("lxc-start", "-d", "-n", machine.container)


def _halt(machine: Machine) -> None:
    if condition(machine.name) == "FROZEN":
        unfreeze(machine.name)
    _lxc("lxc-stop", "-t", "30", "-n", machine.container)


def _demolish(machine: Machine) -> None:
    """Remove the machine in whatever state it is, and Vagrant's memory of it."""
    folder = LXC / machine.container
    machine.ready.unlink(missing_ok=True)
    # Asked without looking first: a container may run although its configuration is gone.
    succeeds("lxc-unfreeze", "-n", machine.container)
    succeeds("lxc-stop", "-k", "-n", machine.container)
    box.unmount_below(folder)
    shutil.rmtree(state() / "vagrant" / "machines" / machine.name, ignore_errors=True)
    box.run("rm", "-rf", folder)


def _wait_for_ssh(machine: Machine) -> None:
    last = ""

    def answers() -> bool:
        nonlocal last
        try:
            done = ssh(machine.name, "true", check=False, timeout=10)
        except subprocess.TimeoutExpired:
            return False
        last = done.stderr.strip()
        return done.returncode == 0

    try:
        _until(answers, f"{machine.name} does not answer on SSH", seconds=60)
    except MachineError as error:
        raise MachineError(f"{error}: {last}\n{journal(machine.name, 20)}") from None


def _until(done: Callable[[], bool], complaint: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise MachineError(f"{complaint} within {seconds:.0f} s")
        time.sleep(0.2)


def _each(task: Callable[[Machine], None], machines: list[Machine]) -> None:
    with ThreadPoolExecutor(max_workers=len(MACHINES)) as pool:
        list(pool.map(task, machines))


def _vagrant(home: Path, *words: str) -> None:
    environ = os.environ | {
        "VAGRANT_HOME": str(home),
        "VAGRANT_DOTFILE_PATH": str(state() / "vagrant"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_NO_COLOR": "1",
    }
    box.run("vagrant", *words, cwd=HERE, env=environ)


def _lxc(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(f"{' '.join(words)}: exit {done.returncode}\n{done.stderr}")


# ---------------------------------------------------------------- the command line


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.machines")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="one line per machine")
    commands.add_parser(
        "destroy", help="remove all machines and the bridge, if it was started here"
    )
    words = {
        "up": "create or resume",
        "halt": "shut down",
        "fresh": "make bare",
        "remove": "remove",
    }
    for word, text in words.items():
        commands.add_parser(word, help=text).add_argument("names", nargs="*", metavar="NAME")
    shell = commands.add_parser("ssh", help="a shell on a machine, or one command")
    shell.add_argument("name", choices=MACHINES)
    shell.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD")
    asked = parser.parse_args()

    started = time.monotonic()
    try:
        match asked.command:
            case "up":
                up(asked.names or DEFAULT)
            case "halt":
                halt(asked.names or MACHINES)
            case "fresh":
                fresh(*asked.names)
            case "remove":
                remove(*asked.names)
            case "destroy":
                destroy()
            case "ssh":
                return subprocess.run(
                    [*ssh_command(asked.name), *asked.words], check=False
                ).returncode
    except (Unavailable, MachineError, box.BuildError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for machine in MACHINES.values():
        print(f"{machine.name:10}  {machine.address:10}  {condition(machine.name)}")
    print(f"{asked.command}: {time.monotonic() - started:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
