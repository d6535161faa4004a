"""The boxes of the test machines: bare Debian servers, made with debootstrap for vagrant-lxc.

`python -m tests.cluster.box [SUITE]` builds a box if it is missing and prints the Vagrant home that
holds it. Each box has a home of its own, outside the repository, which is named by the Debian
release and a digest of everything the box is made from: another recipe makes another box, and that
of the other release stays.
"""

import contextlib
import fcntl
import hashlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
SUITES = {"bookworm": 12, "trixie": 13}  # Debian's releases
DEFAULT_SUITE = "bookworm"
GATEWAY = "10.0.3.1"  # lxcbr0 on the machine that runs the containers; its dnsmasq answers DNS

# What a minimal Debian server has, plus what Ansible asks for (python3, python3-apt). Left out on
# purpose, because the roles under test must bring what they need: Java, nftables, rsync, pip, venv.
PACKAGES = (
    "systemd systemd-sysv dbus libpam-systemd openssh-server sudo python3 python3-apt "
    "iproute2 iputils-ping netbase procps ca-certificates less cron"
).split()

# Tools that wait for hardware or consoles that a container does not have.
MASKED = (
    "systemd-networkd-wait-online.service systemd-udevd.service console-getty.service "
    "getty@.service container-getty@.service getty-static.service"
).split()

LXC_CONFIG = """\
lxc.include = /usr/share/lxc/config/debian.common.conf
lxc.apparmor.profile = unconfined
"""

# A server has host keys of its own; a box with keys inside would give all of them the same.
HOST_KEYS_UNIT = """\
[Unit]
Description=SSH host keys, made at the first boot
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
"""


class BuildError(Exception):
    """The box could not be built; the message says which step failed and how."""


@dataclass(frozen=True)
class Mirrors:
    """Where this machine gets Debian packages, so that the hosts get them there too."""

    main: str = "http://deb.debian.org/debian"
    security: str = "http://deb.debian.org/debian-security"
    settings: dict[str, str] = field(default_factory=dict)  # file of apt.conf.d → its text
    authorities: dict[str, str] = field(default_factory=dict)  # local certificate authorities
    keyrings: dict[str, bytes] = field(default_factory=dict)  # of a mirror that signs for itself

    def sources(self, suite: str) -> str:
        suites = {self.main: f"{suite} {suite}-updates", self.security: f"{suite}-security"}
        return "\n".join(
            f"Types: deb\nURIs: {uri}\nSuites: {names}\nComponents: main\n"
            for uri, names in suites.items()
        )


def mirrors(etc: Path = Path("/etc"), environ: dict[str, str] | None = None) -> Mirrors:
    """Read this machine's own apt settings; Debian's public mirror where it has none."""
    environ = dict(os.environ) if environ is None else environ
    apt = etc / "apt"
    listed = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    text = "\n".join(
        p.read_text() for p in listed if p.suffix in {".list", ".sources"} and p.is_file()
    )
    text = re.sub(r"(?m)^\s*#.*$", "", text)
    found = Mirrors()
    main = re.search(r"\bhttps?://\S+/debian/?(?=\s)", text)
    security = re.search(r"\bhttps?://\S+/debian-security/?(?=\s)", text)

    # Only what decides how packages are fetched; the rest of apt.conf.d is this machine's taste.
    settings = {
        p.name: p.read_text()
        for p in sorted((apt / "apt.conf.d").glob("*"))
        if re.search(r"Acquire::(?:https?|Check|Retries|ForceIPv)", p.read_text())
    }
    proxies = {
        scheme: environ.get(f"{scheme}_proxy") or environ.get(f"{scheme}_proxy".upper())
        for scheme in ("http", "https")
    }
    lines = [f'Acquire::{s}::Proxy "{url}";\n' for s, url in proxies.items() if url]
    if lines:
        settings["95proxy"] = "".join(lines)

    authorities = {
        p.name: p.read_text()
        for p in sorted(Path("/usr/local/share/ca-certificates").glob("*.crt"))
    }
    keyrings = {
        str(p): p.read_bytes()
        for folder in (apt / "keyrings", apt / "trusted.gpg.d")
        for p in sorted(folder.glob("*.*g*"))
    }
    return Mirrors(
        main[0] if main else found.main,
        security[0] if security else found.security,
        settings,
        authorities,
        keyrings,
    )


def cache() -> Path:
    """The folder of everything the test bed keeps between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sparkbundle" / "test-box"


def digest(suite: str, source: Mirrors) -> str:
    code = [inspect.getsource(step) for step in (bootstrap, furnish, add)]
    texts = [
        suite,
        GATEWAY,
        *PACKAGES,
        *MASKED,
        LXC_CONFIG,
        HOST_KEYS_UNIT,
        gpu_script(),
        template(),
    ]
    recipe = [*code, *texts, repr(source)]
    return hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:16]


def gpu_script() -> str:
    return (HERE / "simulated_nvidia_smi.sh").read_text()


def template() -> str:
    return (HERE / "lxc_template.sh").read_text()


def vagrant_keys() -> Path:
    """The folder of Vagrant's published, insecure key pair."""
    found = sorted(Path("/usr/share/rubygems-integration").glob("*/gems/vagrant-[0-9]*/keys"))
    found += sorted(Path("/opt/vagrant/embedded/gems").glob("*/gems/vagrant-[0-9]*/keys"))
    if not found:
        raise BuildError("Vagrant's insecure key is not where the Debian package puts it")
    return found[-1]


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    """Run a quiet command; what it printed is shown only when it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=cwd,
        env=env,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise BuildError(f"{command[0]} failed with exit code {done.returncode}:\n{tail}")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One at a time; a killed holder leaves no lock behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure(suite: str = DEFAULT_SUITE) -> Path:
    """Return the Vagrant home with the box in it; build the box if it is missing."""
    source = mirrors()
    home = cache() / f"{suite}-{digest(suite, source)}"
    if not pristine(home).exists():
        with locked(cache() / f"{suite}.lock"):
            if not pristine(home).exists():
                build(home, source)
    return home


def suite_of(home: Path) -> str:
    """The Debian release of the box in a Vagrant home."""
    return home.name.partition("-")[0]


def box_name(suite: str) -> str:
    """What Vagrant calls the box."""
    return f"sparkbundle/bare-{suite}"


def pristine(home: Path) -> Path:
    """The root file system that all machines share and none can write to."""
    folder = box_name(suite_of(home)).replace("/", "-VAGRANTSLASH-")
    return home / "boxes" / folder / "0" / "lxc" / "rootfs"


def insecure_key() -> Path:
    """A copy of Vagrant's published private key that ssh accepts: only its owner can read it."""
    path = cache() / "insecure_private_key"
    if not path.exists():
        with locked(cache() / "key.lock"):
            shutil.copyfile(vagrant_keys() / "vagrant", partial := path.with_suffix(".part"))
            partial.chmod(0o600)
            partial.rename(path)
    return path


def build(home: Path, source: Mirrors) -> None:
    started = time.monotonic()
    suite = suite_of(home)
    print(f"building the test machines' box of {suite} (a minute or two) …", file=sys.stderr)
    prune(suite)
    work = home.with_name(f"{home.name}.building")
    root = work / "rootfs"
    root.mkdir(parents=True)
    bootstrap(root, suite, source)
    furnish(root, suite, source)
    add(work, home)
    root.rename(pristine(home))  # the last step: its presence says that the box is complete
    shutil.rmtree(work)
    print(f"the box of {suite} is built: {time.monotonic() - started:.0f} s", file=sys.stderr)


def prune(suite: str) -> None:
    """Remove what a killed build left, and the boxes of other recipes that no container uses.

    Those of the other releases stay: they may be in the making.
    """
    configs = "".join(path.read_text() for path in Path("/var/lib/lxc").glob("*/config"))
    kept = tuple(f"{other}-" for other in SUITES if other != suite)
    for folder in cache().iterdir():
        if folder.is_dir() and not folder.name.startswith(kept) and f"{folder}/" not in configs:
            unmount_below(folder)
            shutil.rmtree(folder)


def unmount_below(folder: Path) -> None:
    """Unmount what a killed debootstrap or a test left mounted, before the folder is removed."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted(mounts, reverse=True):
        if mount.startswith(f"{folder}/"):
            run("umount", "--lazy", mount)


def bootstrap(root: Path, suite: str, source: Mirrors) -> None:
    include = ",".join(PACKAGES)
    run("debootstrap", "--variant=minbase", f"--include={include}", suite, root, source.main)


def furnish(root: Path, suite: str, source: Mirrors) -> None:
    """Turn the fresh Debian into a server that Vagrant can reach."""

    def write(path: str, text: str | bytes, mode: int = 0o644) -> None:
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        target.chmod(mode)

    def inside(*command: str) -> None:
        run("chroot", root, *command)

    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    write("/etc/apt/sources.list.d/debian.sources", source.sources(suite))
    for name, text in source.settings.items():
        write(f"/etc/apt/apt.conf.d/{name}", text)
    for name, text in source.authorities.items():
        write(f"/usr/local/share/ca-certificates/{name}", text)
    for name, data in source.keyrings.items():
        write(name, data)
    inside("update-ca-certificates")

    write("/etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
    write("/etc/hostname", "debian\n")
    write("/etc/resolv.conf", f"nameserver {GATEWAY}\n")
    write("/etc/default/locale", "LANG=C.UTF-8\n")
    write("/etc/machine-id", "")  # empty: made at the first boot, different on each host
    write("/usr/local/lib/simulated-nvidia-smi", gpu_script(), 0o755)
    write("/etc/systemd/system/ssh-host-keys.service", HOST_KEYS_UNIT)
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()

    # networkd runs and manages nothing: LXC has set the address before init starts, and Vagrant's
    # hostname step, which fails on ifupdown, is content with an active networkd.
    inside("systemctl", "enable", "systemd-networkd.service", "ssh-host-keys.service")
    inside("systemctl", "mask", *MASKED)

    inside("useradd", "--create-home", "--shell", "/bin/bash", "vagrant")
    write("/etc/sudoers.d/vagrant", "vagrant ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    public = (vagrant_keys() / "vagrant.pub").read_text()
    write("/home/vagrant/.ssh/authorized_keys", public, 0o600)
    (root / "home/vagrant/.ssh").chmod(0o700)
    inside("chown", "-R", "vagrant:vagrant", "/home/vagrant")

    inside("apt-get", "clean")
    for lists in (root / "var/lib/apt/lists").glob("*"):
        shutil.rmtree(lists) if lists.is_dir() else lists.unlink()


def add(work: Path, home: Path) -> None:
    """Register the box with Vagrant."""
    (work / "metadata.json").write_text(json.dumps({"provider": "lxc", "version": "1.0.0"}))
    (work / "lxc-config").write_text(LXC_CONFIG)
    (work / "lxc-template").write_text(template())
    (work / "lxc-template").chmod(0o755)
    (work / "rootfs.tar.gz").touch()  # the plugin asks that it exists; our template needs none
    with tarfile.open(work / "test.box", "w") as box:
        for name in ("metadata.json", "lxc-config", "lxc-template", "rootfs.tar.gz"):
            box.add(work / name, name)
    environ = os.environ | {"VAGRANT_HOME": str(home), "VAGRANT_CHECKPOINT_DISABLE": "1"}
    words = ("--name", box_name(suite_of(home)), "--provider", "lxc", "--force")
    run("vagrant", "box", "add", *words, work / "test.box", env=environ, cwd=work)


if __name__ == "__main__":
    print(ensure(*sys.argv[1:]))
