"""What this computer must have to carry the test machines: packages, a bridge, overlay mounts."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster import box

DEBIAN_PACKAGES = (
    "vagrant vagrant-lxc lxc lxc-templates debootstrap dnsmasq-base iptables bridge-utils "
    "openssh-client sudo"
).split()
BRIDGE = "lxcbr0"
NETWORK = "10.0.3.0/24"
LXC = Path("/var/lib/lxc")
CAPABILITIES = (1 << 12) | (1 << 21)  # CAP_NET_ADMIN, CAP_SYS_ADMIN


class Unavailable(Exception):  # noqa: N818 - it names a state, not a mistake
    """This computer cannot run the test machines; the message says why."""


def state() -> Path:
    """The folder of what is true of the machines that exist now; `destroy` removes it."""
    return box.cache().with_name("test-machines")


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
    return output("ip", "-4", "-o", "address", "show").splitlines()


def _not_installed() -> list[str]:
    if not shutil.which("dpkg-query"):
        return list(DEBIAN_PACKAGES)
    listing = ("dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n")
    lines = output(*listing, *DEBIAN_PACKAGES).splitlines()
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
        succeeds("ip", "link", "add", "dev", BRIDGE, "type", "bridge")
    # The script refuses to start what it believes is up; a killed run may have left that belief.
    Path("/run/lxc/network_up").unlink(missing_ok=True)
    done = subprocess.run([scripts[0], "start"], capture_output=True, text=True, check=False)
    if not _bridge_works():
        raise Unavailable(f"the bridge {BRIDGE} does not start: {done.stdout}{done.stderr}")


def try_overlay() -> None:
    """Refuse early where the machines' disks, which are overlays, cannot be mounted."""
    LXC.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=LXC, prefix=".overlay-") as folder:
        layers = {name: Path(folder, name) for name in ("lower", "upper", "work", "all")}
        for layer in layers.values():
            layer.mkdir()
        options = "lowerdir={lower},upperdir={upper},workdir={work}".format(**layers)
        if not succeeds("mount", "-t", "overlay", "-o", options, "overlay", str(layers["all"])):
            raise Unavailable(f"the kernel does not mount an overlay over {LXC}")
        succeeds("umount", str(layers["all"]))


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
    return succeeds("iptables", "-w", "-t", "nat", "-C", *rule) or succeeds(
        "nft", "list", "table", "ip", "lxc"
    )


def stop_bridge() -> None:
    """Stop the bridge that was started here, unless somebody else's container has joined since."""
    if _bridge_is_ours().exists() and not any(Path("/sys/class/net", BRIDGE).glob("brif/*")):
        stop = [_bridge_is_ours().read_text(), "stop"]
        subprocess.run(stop, capture_output=True, check=False)


def output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def succeeds(*words: str) -> bool:
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
