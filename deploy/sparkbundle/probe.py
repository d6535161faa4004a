"""What a host tells about itself: sent to `python3 -` over SSH, prints one JSON object.

It changes nothing and needs nothing but Python's standard library, of any version 3: a host
with an old Python must be able to say so. Argument 1 is a JSON object: `ports` (those to look at),
`address` (is it one of this host's?); argument 2 is SSH_CONNECTION, which sudo does not pass on.
"""

import contextlib
import glob
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

MANAGED = (
    "/etc/sparkbundle/*",
    "/etc/sparkbundle/notebook/*",
    "/etc/sparkbundle/notebook/*/*",
    "/etc/sparkbundle/notebook/kernels/*/*",
    "/etc/systemd/system/spark-*.service",
    "/etc/systemd/system/spark-*.socket",
    "/etc/systemd/system/spark-*.service.d/*",
    "/etc/systemd/system/sparkbundle-*.service",
    "/etc/sysctl.d/60-sparkbundle.conf",
    "/opt/sparkbundle/libexec/*",
    "/opt/sparkbundle/libexec/*/*.py",
    "/opt/sparkbundle/libexec/notebook/sparkbundle/*.py",
)
DIRECTORIES = (
    "/etc/sparkbundle",
    "/opt/sparkbundle",
    "/var/lib/sparkbundle",
    "/var/lib/sparkbundle/*",
)
VECTORS = "/var/lib/sparkbundle/vectors"
UNITS = (
    "spark-master",
    "spark-worker",
    "spark-history",
    "spark-notebook",
    "spark-notebook-public.socket",
    "sparkbundle-firewall",
)
LISTEN = "0A"


def run(*words: str) -> "str | None":
    """A command's output, or None where it fails, is not there, or hangs."""
    try:
        done = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def read(path: str) -> "str | None":
    """A file's text, or None."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def os_release() -> "dict[str, str]":
    """ID, VERSION_ID and what else /etc/os-release says."""
    lines = (read("/etc/os-release") or "").splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {key: value.strip().strip('"') for key, value in pairs}


def memory_mib() -> int:
    """The machine's memory, or what a control group leaves of it."""
    found = re.search(r"MemTotal:\s+(\d+) kB", read("/proc/meminfo") or "")
    limits = [int(found.group(1)) * 1024] if found else []
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = (read(path) or "").strip()
        if text.isdigit():
            limits.append(int(text))
    return min(limits) // (1 << 20) if limits else 0


def free_mib(path: str) -> int:
    """Free space where a path is or will be."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free // (1 << 20)


def listeners(ports: "set[int]") -> "dict[int, dict[str, str]]":
    """For each of the ports that somebody listens on: who, and with which user."""
    inodes = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in (read(table) or "").splitlines()[1:]:
            words = line.split()
            port = int(words[1].rsplit(":", 1)[1], 16)
            if words[3] == LISTEN and (not ports or port in ports):
                inodes[words[9]] = (port, int(words[7]))
    holders = {}
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        found = re.match(r"socket:\[(\d+)\]", target)
        if found and found.group(1) in inodes:
            pid = link.split("/")[2]
            holders[found.group(1)] = "%s (pid %s)" % (
                (read("/proc/%s/comm" % pid) or "?").strip(),
                pid,
            )
    taken = {}
    for inode, (port, uid) in inodes.items():
        taken[port] = {"by": holders.get(inode, "a process"), "user": user_name(uid)}
    return taken


def open_to_the_network() -> "list[int]":
    """Ports that listen on more than the loopback address."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in (read(table) or "").splitlines()[1:]:
            words = line.split()
            address, port = words[1].rsplit(":", 1)
            loopback = address in ("0100007F", "00000000000000000000000001000000")
            if words[3] == LISTEN and not loopback and not address.endswith("7F"):
                found.add(int(port, 16))
    return sorted(found)


def user_name(uid: int) -> str:
    """The name of a user, or its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def users(names: "tuple[str, ...]") -> "dict[str, str]":
    """The homes of those of these users that there are."""
    found = {}
    for name in names:
        with contextlib.suppress(KeyError):
            found[name] = pwd.getpwnam(name).pw_dir
    return found


def is_mine(address: str) -> bool:
    """Whether an address is one of this host's: only then can it be listened on."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
            one.bind((address, 0))
    except OSError:
        return False
    return True


def java() -> "dict[str, object]":
    """What `java -version` says it is, and whether this Java can run Spark 4."""
    quiet = ("-XX:-UsePerfData",)  # it would write a file below /tmp
    # One start tells both of a Java that is complete; a warning may come before its version.
    report = run("java", *quiet, "--add-modules=jdk.incubator.vector", "-version")
    complete = report is not None
    if report is None:
        report = run("java", *quiet, "-version") or ""
    versions = [line for line in report.splitlines() if " version " in line]
    return {"version": (versions or report.splitlines() or [""])[0], "complete": complete}


# From here to find_gpus the same text as in roles/gpu/files/gpu.py: neither can import the other.
NVIDIA_SECONDS = 20
NO_CARD = "NVIDIA's driver finds no card: see `dmesg` there"


def ask_nvidia(*words: str) -> "tuple[str, str]":
    """What nvidia-smi says, and what went wrong. One that hangs is killed with its children."""
    try:
        process = subprocess.Popen(
            ("nvidia-smi", *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return "", "nvidia-smi fails: %s" % error
    try:
        said = process.communicate(timeout=NVIDIA_SECONDS)[0].decode(errors="replace").strip()
    except BaseException as error:  # Ctrl-C, too: it is in a session of its own
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        # Waited for a moment only: what hangs inside the kernel does not end when it is killed.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        return "", "nvidia-smi hangs: no answer within %s s" % NVIDIA_SECONDS
    if process.returncode != 0:
        return said, "nvidia-smi fails (%d): %s" % (process.returncode, first_line(said))
    return said, ""


def first_line(text: str) -> str:
    """The first line of a text, cut short."""
    return (text.splitlines() or ["it says nothing"])[0][:120]


def parse_gpus(listing: str) -> "list[dict[str, str]]":
    """The GPUs that `nvidia-smi -L` lists: address, UUID, name, and the number of the card.

    The address is what CUDA_VISIBLE_DEVICES takes: the number of a whole card, the UUID of a
    MIG instance; a card that has instances cannot be used as a whole (NVIDIA's MIG User Guide).

    GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-...)
      MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-...)
    """
    found = []  # type: list[dict[str, str]]
    card = {}  # type: dict[str, str]
    for line in listing.splitlines():
        whole = re.match(r"GPU (\d+): (.*) \(UUID: (\S+)\)\s*$", line)
        part = re.match(r"\s+(MIG \S+)\s+Device\s+\d+: \(UUID: (\S+)\)\s*$", line)
        if whole:
            number, name, uuid = whole.groups()
            card = {"address": number, "uuid": uuid, "name": name, "card": number}
            found.append(card)
        elif part and card:
            if found[-1] is card:
                found.pop()
            name, uuid = card["name"] + " " + part.group(1), part.group(2)
            found.append({"address": uuid, "uuid": uuid, "name": name, "card": card["card"]})
    return found


def find_gpus() -> "tuple[list[dict[str, str]], str]":
    """The GPUs of this host, and why there are none where NVIDIA's driver is there."""
    if shutil.which("nvidia-smi") is None:
        return [], ""
    said, fault = ask_nvidia("-L")
    if re.match("No devices (were )?found", said):
        return [], NO_CARD
    found = [] if fault else parse_gpus(said)
    if not found and not fault:
        fault = "nvidia-smi -L lists no GPUs, it says: " + first_line(said)
    return found, fault


def gpus(root: str = "/") -> "dict[str, object]":
    """The NVIDIA GPUs, and what is wrong with them.

    `fault`: the driver is there and fails; `note`: there is a card without a driver, or a driver
    without a card. `devices` has an entry for each of `addresses`.
    """
    found, fault = find_gpus()
    note = fault if fault == NO_CARD else ""
    if shutil.which("nvidia-smi") is None and has_nvidia_card(root):
        note = "an NVIDIA card without driver: install nvidia-driver"
    known = gpu_memory() if found else {}
    return {
        "addresses": [one["address"] for one in found],
        "devices": [described(one, known.get(one["card"], {})) for one in found],
        "fault": "" if note else fault,
        "note": note,
    }


def described(gpu: "dict[str, str]", known: "dict[str, object]") -> "dict[str, object]":
    """A GPU with its driver, memory and use; a MIG instance has a part of its card's, not told."""
    whole = gpu["address"] == gpu["card"]
    return {
        "address": gpu["address"],
        "uuid": gpu["uuid"],
        "name": gpu["name"],
        "driver": known.get("driver", ""),
        "memory_mib": known.get("memory_mib") if whole else None,
        "free_mib": known.get("free_mib") if whole else None,
        "utilization": known.get("utilization") if whole else None,
    }


def gpu_memory() -> "dict[str, dict[str, object]]":
    """Memory, use and driver of each card by its number; what is not known is None or empty.

    Use is the part of the last moment in which something ran on it, in percent. The columns are
    described by `nvidia-smi --help-query-gpu`; what a card or a driver does not tell is [N/A].
    """
    said, fault = ask_nvidia(
        "--query-gpu=index,memory.total,memory.free,utilization.gpu,driver_version",
        "--format=csv,noheader,nounits",
    )
    cards = {}  # type: dict[str, dict[str, object]]
    for line in [] if fault else said.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) == 5:
            total, free, use = [int(word) if word.isdigit() else None for word in words[1:4]]
            cards[words[0]] = {
                "memory_mib": total,
                "free_mib": free,
                "utilization": use,
                "driver": "" if words[4].startswith("[") else words[4],
            }
    return cards


def has_nvidia_card(root: str) -> bool:
    """Whether there is an NVIDIA card, with a driver or without: a device file, or a PCI device.

    It is of NVIDIA's (vendor 0x10de) and a display controller (class 0x03....), as graphics
    cards and those that only compute are.
    """
    if glob.glob(os.path.join(root, "dev/nvidia[0-9]*")):
        return True
    for device in glob.glob(os.path.join(root, "sys/bus/pci/devices/*")):
        vendor = (read(os.path.join(device, "vendor")) or "").strip()
        kind = read(os.path.join(device, "class")) or ""
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False


def owner_and_mode(path: str) -> str:
    """The numbers of a path's user and group, and its mode in octal."""
    status = os.stat(path)
    return "%d:%d:%o" % (status.st_uid, status.st_gid, status.st_mode & 0o7777)


def managed_files() -> "dict[str, str]":
    """Every path that a deploy makes: its owner and mode, and for a file its content's digest."""
    directories = [path for pattern in DIRECTORIES for path in glob.glob(pattern)]
    files = {path: owner_and_mode(path) for path in directories if os.path.isdir(path)}
    for pattern in MANAGED:
        for path in sorted(glob.glob(pattern)):
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    digest = hashlib.sha256(file.read()).hexdigest()
                files[path] = "%s %s" % (owner_and_mode(path), digest)
    return files


def units() -> "dict[str, dict[str, str]]":
    """Our units: ActiveState, whether they start at boot, and which start this is."""
    found = {}
    for unit in UNITS:
        said = run(
            "systemctl", "show", unit,
            "--property=ActiveState,UnitFileState,InvocationID,LoadState",
        )  # fmt: skip
        shown = dict(line.split("=", 1) for line in (said or "").splitlines() if "=" in line)
        if shown.get("LoadState") == "loaded":
            found[unit] = {
                "active": shown.get("ActiveState", ""),
                "enabled": shown.get("UnitFileState", ""),
                "start": shown.get("InvocationID", ""),
            }
    return found


def started_with(unit: str) -> str:
    """The digest of the settings that a unit of ours runs with, empty where it does not run."""
    said = run("systemctl", "show", "-P", "MainPID", unit)
    environment = read("/proc/%s/environ" % (said or "0").strip()) or ""
    found = re.search(r"(?:^|\0)SPARKBUNDLE_CONFIG=(\w*)", environment)
    return found.group(1) if found else ""


def release() -> str:
    """The digest of the release in use, empty where there is none that is complete."""
    link = "/opt/sparkbundle/current"
    if not os.path.exists(os.path.join(link, ".complete")):
        return ""
    return os.path.basename(os.path.realpath(link))


def word_tables(store: str) -> "list[dict[str, object]]":
    """The word tables in a store, and whether each is as it was when it was verified.

    docs/word-table.md has the layout: DIGEST.lock holds size, inode and times of each file.
    """
    found = []
    for path in sorted(glob.glob(os.path.join(store, "[0-9a-f]" * 64))):
        manifest = as_json(os.path.join(path, "manifest.json"))
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
            continue
        seal = {}
        for name in os.listdir(path):
            status = os.stat(os.path.join(path, name))
            seal[name] = [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
        found.append(
            {
                "digest": os.path.basename(path),
                "whole": as_json(path + ".lock") == seal,
                "bytes": sum(file.get("bytes", 0) for file in manifest["files"].values()),
                "rows": manifest.get("rows"),
                "dimensions": manifest.get("dimensions"),
                "dtype": manifest.get("dtype"),
                "source": (manifest.get("source") or {}).get("name", ""),
            }
        )
    return found


def as_json(path: str) -> object:
    """The JSON in a file, or None."""
    text = read(path)
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def main() -> None:
    """Print what there is."""
    asked = json.loads(sys.argv[1])
    connection = sys.argv[2].split()  # client, its port, this host, its port; or nothing
    address = asked["address"] or (connection[2] if connection else "")
    told = {
        "python": list(sys.version_info[:3]),
        "root": os.geteuid() == 0,
        "time": time.time(),
        "hostname": socket.gethostname(),
        "os": os_release(),
        "machine": os.uname().machine,
        "bits": struct.calcsize("P") * 8,
        "systemd": os.path.isdir("/run/systemd/system"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": memory_mib(),
        "free_mib": {path: free_mib(path) for path in ("/opt/sparkbundle", "/var/lib/sparkbundle")},
        "listeners": listeners(set(asked["ports"])),
        "open_ports": open_to_the_network(),
        "address": address,
        "address_is_mine": bool(address) and is_mine(address),
        "ssh_port": int(connection[3]) if connection else 22,
        "java": java(),
        "gpus": gpus(),
        "users": users(("spark", "sparkjob", "sparknote")),
        "cluster": as_json("/etc/sparkbundle/cluster.json"),
        "deployed": as_json("/var/lib/sparkbundle/deployed.json"),
        "release": release(),
        "files": managed_files(),
        "units": units(),
        "notebook_config": started_with("spark-notebook"),
        "word_tables": word_tables(VECTORS),
        "firewall": run("nft", "list", "table", "inet", "sparkbundle") is not None,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
