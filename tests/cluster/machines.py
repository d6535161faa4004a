"""The test machines: bare Debian hosts that a test or a person brings up, breaks and renews.

    python -m tests.cluster.machines up [NAME …]       create or resume (default: all but the spare)
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
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import box

HERE = Path(__file__).parent
DEBIAN_PACKAGES = (
    "vagrant vagrant-lxc lxc lxc-templates debootstrap dnsmasq-base iptables bridge-utils "
    "openssh-client sudo"
).split()
BRIDGE = "lxcbr0"
NETWORK = "10.0.3.0/24"
USER = "vagrant"
LXC = Path("/var/lib/lxc")
SPARE = "worker-3"
CAPABILITIES = (1 << 12) | (1 << 21)  # CAP_NET_ADMIN, CAP_SYS_ADMIN


class Unavailable(Exception):  # noqa: N818 - it names a state, not a mistake
    """This computer cannot run the test machines; the message says why."""


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
DEFAULT = tuple(name for name in MACHINES if name != SPARE)


# ---------------------------------------------------------------- where things are


def state() -> Path:
    """The folder of what is true of the machines that exist now; `destroy` removes it."""
    return box.cache().with_name("test-machines")


def address(name: str) -> str:
    return MACHINES[name].address


def private_key() -> Path:
    """Vagrant's published, insecure key, readable by its owner only, as ssh wants it."""
    return box.insecure_key()


# ---------------------------------------------------------------- what this computer needs


def unavailable() -> str | None:
    """Say why this computer cannot run the machines, or None. Installs nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "the test machines need Linux and root"
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    if effective & CAPABILITIES != CAPABILITIES:
        return "the test machines need CAP_SYS_ADMIN and CAP_NET_ADMIN (an unprivileged container?)"
    if _not_installed() and not shutil.which("apt-get"):
        return f"not installed, and there is no apt-get: {' '.join(_not_installed())}"
    if not os.access("/sys/fs/cgroup", os.W_OK):
        return "the test machines need a writable /sys/fs/cgroup"
    taken = [line for line in _addresses() if " 10.0.3." in line and f" {BRIDGE} " not in line]
    if taken:
        return f"the network {NETWORK} is taken: {taken[0].strip()}"
    return None


def _addresses() -> list[str]:
    if not shutil.which("ip"):
        return []
    return _output("ip", "-4", "-o", "address", "show").splitlines()


def _not_installed() -> list[str]:
    if not shutil.which("dpkg-query"):
        return list(DEBIAN_PACKAGES)
    listing = ("dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n")
    lines = _output(*listing, *DEBIAN_PACKAGES).splitlines()
    return [name for name in DEBIAN_PACKAGES if f"{name} installed" not in lines]


def install() -> None:
    """Install the Debian packages that are missing."""
    reason = unavailable()
    if reason:
        raise Unavailable(reason)
    missing = _not_installed()
    if not missing:
        return
    print(f"installing {' '.join(missing)} …", file=sys.stderr)
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    wait = "-oDPkg::Lock::Timeout=120"
    try:
        box.run("apt-get", wait, "-q", "update", env=environ)
        words = ("install", "-y", "--no-install-recommends")
        box.run("apt-get", wait, "-q", *words, *missing, env=environ)
    except box.BuildError as error:
        raise Unavailable(str(error)) from None


def ensure_bridge() -> None:
    """Start LXC's bridge (address, NAT, DNS) unless it works."""
    if _bridge_works():
        return
    places = ("/usr/libexec/lxc", "/usr/lib/x86_64-linux-gnu/lxc", "/usr/lib/aarch64-linux-gnu/lxc")
    scripts = [Path(place) / "lxc-net" for place in places if (Path(place) / "lxc-net").exists()]
    if not scripts:
        raise Unavailable("the lxc package has no lxc-net script")
    if not Path("/sys/class/net", BRIDGE).exists():
        _bridge_is_ours().parent.mkdir(parents=True, exist_ok=True)
        _bridge_is_ours().write_text(str(scripts[0]))
        # Finding a bridge, the script first stops the old one: its DNS server, its filter rules.
        _succeeds("ip", "link", "add", "dev", BRIDGE, "type", "bridge")
    # The script refuses to start what it believes is up; a killed run may have left that belief.
    Path("/run/lxc/network_up").unlink(missing_ok=True)
    done = subprocess.run([scripts[0], "start"], capture_output=True, text=True, check=False)
    if not _bridge_works():
        raise Unavailable(f"the bridge {BRIDGE} does not start: {done.stdout}{done.stderr}")


def _try_overlay() -> None:
    """Refuse early where the machines' disks, which are overlays, cannot be mounted."""
    LXC.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=LXC, prefix=".overlay-") as folder:
        layers = {name: Path(folder, name) for name in ("lower", "upper", "work", "all")}
        for layer in layers.values():
            layer.mkdir()
        options = "lowerdir={lower},upperdir={upper},workdir={work}".format(**layers)
        if not _succeeds("mount", "-t", "overlay", "-o", options, "overlay", str(layers["all"])):
            raise Unavailable(f"the kernel does not mount an overlay over {LXC}")
        _succeeds("umount", str(layers["all"]))


def _bridge_is_ours() -> Path:
    return state() / "bridge-started"


def _bridge_works() -> bool:
    gateway = f" {BRIDGE} "
    if not any(gateway in line and f" {box.GATEWAY}/24 " in line for line in _addresses()):
        return False
    if Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() != "1":
        return False
    try:
        pid = int(Path("/run/lxc/dnsmasq.pid").read_text())
        if "dnsmasq" not in Path(f"/proc/{pid}/cmdline").read_text():  # empty: a zombie
            return False
    except (OSError, ValueError):
        return False
    rule = ("POSTROUTING", "-s", NETWORK, "!", "-d", NETWORK, "-j", "MASQUERADE")
    return _succeeds("iptables", "-w", "-t", "nat", "-C", *rule) or _succeeds(
        "nft", "list", "table", "ip", "lxc"
    )


# ---------------------------------------------------------------- the machines


def up(names: Iterable[str] = DEFAULT) -> None:
    """Create, start or resume the machines, and return when all of them answer."""
    chosen = _chosen(names)
    install()
    with _alone():
        home = box.ensure()
        _try_overlay()
        ensure_bridge()
        heal()
        missing = [machine for machine in chosen if not _complete(machine, home)]
        if missing:
            _create(missing, home)
        _each(_resume, [machine for machine in chosen if machine not in missing])
        _each(_wait_for_ssh, chosen)
        for machine in missing:
            machine.ready.write_text(_origin(home))


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
        # Ours to stop only if we started it and nobody else's container has joined since.
        if _bridge_is_ours().exists() and not any(Path("/sys/class/net", BRIDGE).glob("brif/*")):
            stop = [_bridge_is_ours().read_text(), "stop"]
            subprocess.run(stop, capture_output=True, check=False)
        shutil.rmtree(state(), ignore_errors=True)
        for index in box.cache().glob("*/data/machine-index"):
            shutil.rmtree(index)


def fresh(*names: str) -> None:
    """Make the machines bare again, as if newly installed. Creates those that are absent."""
    install()
    home = box.ensure()
    absent = [machine.name for machine in _chosen(names) if not _complete(machine, home)]
    if absent:
        up(absent)

    def reset(machine: Machine) -> None:
        _replace_disk(machine, None)
        # What Vagrant's hostname step does to a machine that it creates.
        etc = machine.disk / "etc"
        etc.mkdir()
        (etc / "hostname").write_text(f"{machine.name}\n")
        hosts = (box.pristine(home) / "etc/hosts").read_text()
        (etc / "hosts").write_text(f"{hosts}127.0.1.1\t{machine.name}\n")
        start(machine.name)

    with _alone():
        _each(reset, [machine for machine in _chosen(names) if machine.name not in absent])


def save(label: str, names: Iterable[str] = DEFAULT) -> None:
    """Keep the disks of the machines as they are now, to go back to. They are shut down for it."""
    halt(names)

    def copy(machine: Machine) -> None:
        kept = state() / "saved" / label / machine.name
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        box.run("cp", "-a", "--reflink=auto", machine.disk, kept)
        start(machine.name)

    _each(copy, _chosen(names))


def restore(label: str, names: Iterable[str] = DEFAULT) -> None:
    """Go back to the saved disks: pull the plug, change the disk, boot."""

    def back(machine: Machine) -> None:
        _replace_disk(machine, state() / "saved" / label / machine.name)
        start(machine.name)

    _each(back, _chosen(names))


def _replace_disk(machine: Machine, source: Path | None) -> None:
    """Give the halted machine a copy of a saved disk, or an empty one."""
    if source and not source.is_dir():
        raise MachineError(f"no saved disk of {machine.name}: {source}")
    force_stop(machine.name)
    folder = machine.disk.parent
    trash = folder / f"trash-{time.time_ns()}"
    trash.mkdir()
    for layer in (machine.disk, folder / "olwork"):  # LXC's name for overlay's work folder
        if layer.exists():
            layer.rename(trash / layer.name)
    # Removing takes longer than copying; nobody has to wait for it.
    subprocess.Popen(["rm", "-rf", trash], start_new_session=True, stderr=subprocess.DEVNULL)
    if source:
        box.run("cp", "-a", "--reflink=auto", source, machine.disk)
    else:
        machine.disk.mkdir()


def condition(name: str) -> str:
    """RUNNING, STOPPED, FROZEN …, or absent."""
    if not (LXC / MACHINES[name].container / "config").exists():
        return "absent"
    return _output("lxc-info", "-n", MACHINES[name].container, "-sH").strip() or "absent"


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


def reboot(name: str) -> None:
    """Reboot from inside, in good order, and wait until the host is back."""
    machine = MACHINES[name]
    before = _init(machine)
    attach(name, "systemctl reboot --no-block")
    _until(lambda: _init(machine) not in {before, ""}, f"{name} does not reboot", seconds=60)
    _wait_for_ssh(machine)


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
            return _output("journalctl", "--no-pager", f"--directory={folder}", f"--lines={lines}")


# ---------------------------------------------------------------- faults


@contextlib.contextmanager
def cut(name: str) -> Iterator[None]:
    """Drop all packets between this computer and the machine; the machines still see each other."""
    rules = [("OUTPUT", "-d", address(name)), ("INPUT", "-s", address(name))]
    with _dropped(rules):
        yield


@contextlib.contextmanager
def partition(one: str, other: str) -> Iterator[None]:
    """Drop all packets between two machines; this computer still sees both."""
    a, b = address(one), address(other)
    # Bridged packets pass iptables only where the kernel is told so; that is its default.
    setting = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not setting.exists() and not _succeeds("modprobe", "br_netfilter"):
        raise Unavailable("the kernel has no br_netfilter: two machines cannot be partitioned")
    setting.write_text("1\n")
    with _dropped([("FORWARD", "-s", a, "-d", b), ("FORWARD", "-s", b, "-d", a)]):
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
            _succeeds("iptables", "-w", "-D", chain, *match, *MARK)


def heal() -> None:
    """Remove the packet filters of faults that a killed run left."""
    for line in _output("iptables", "-w", "-S").splitlines():
        if "sparkbundle-test" in line and line.startswith("-A "):
            _succeeds("iptables", "-w", "-D", *shlex.split(line)[1:])


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
    return (LXC / machine.container / "config").exists() and machine.disk.exists()


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
    _succeeds("lxc-unfreeze", "-n", machine.container)
    _succeeds("lxc-stop", "-k", "-n", machine.container)
    box.unmount_below(folder)
    shutil.rmtree(state() / "vagrant" / "machines" / machine.name, ignore_errors=True)
    box.run("rm", "-rf", folder)


def _init(machine: Machine) -> str:
    """The process id of the machine's init as this computer sees it; a reboot changes it."""
    return _output("lxc-info", "-n", machine.container, "-pH").strip()


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


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def _succeeds(*words: str) -> bool:
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


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
