"""`check`, and what stops a deploy before it has changed anything: all with bare hosts."""

import hashlib
import json
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import machines
from tests.cluster.conftest import HOSTS, Cluster, root

# What a deploy would change, and what a careless check might.
PICTURE = (
    "find / -xdev -newermt @{since} -type f"
    " -not -path '/proc/*' -not -path '/sys/*' -not -path '/run/*' -not -path '/var/log/*'"
)


@contextmanager
def nothing_changes(*names: str):
    """No file of these hosts is written while the block runs, but for logs and below /run."""
    since = {name: root(name, "date +%s.%N").strip() for name in names}
    yield
    for name in names:
        changed = root(name, PICTURE.format(since=since[name])).splitlines()
        assert changed == [], (name, changed)


def test_bare_hosts_will_do_and_are_not_touched(bare: Cluster):
    with nothing_changes(*HOSTS):
        done = bare("check")
        told = bare.json("check")
    assert "host key learned: ssh-ed25519 SHA256:" in done.stderr
    assert told["ok"]
    assert set(told["hosts"]) == set(HOSTS)
    for name in HOSTS:
        assert told["hosts"][name]["problems"] == []
        assert told["hosts"][name]["facts"]["address"] == machines.address(name)
        assert "Java will be installed" in done.stdout


def test_the_check_of_a_deploy_changes_nothing(bare: Cluster):
    with nothing_changes(*HOSTS):
        done = bare("up", "--check")
    assert "changes would be made" in done.stdout
    # Differences are shown, but none with a secret in it.
    assert "+ExecStart=" in done.stdout
    assert "spark.authenticate.secret" not in done.stdout


def test_all_problems_of_all_hosts_come_in_one_table(bare: Cluster):
    """Unreachable, sudo with a password, a wrong system, a taken port, too much asked for."""
    root("master", "mv /etc/sudoers.d/vagrant /root/vagrant.sudoers")
    root("worker-1", "mv /usr/lib/os-release /root/; echo ID=fedora > /usr/lib/os-release")
    root("worker-1", "systemd-run --unit=squatter python3 -m http.server 8081")
    bare.write_inventory(
        worker_1={"spark_cores": 64, "spark_memory": "900g"},
        worker_2={"ansible_host": "10.0.3.99"},
    )
    try:
        with nothing_changes(*HOSTS):
            shown = bare("check", code=4)
            stopped = bare("up", code=4)
    finally:
        root("master", "mv /root/vagrant.sudoers /etc/sudoers.d/vagrant")
        root("worker-1", "mv /root/os-release /usr/lib/os-release; systemctl stop squatter")
        bare.write_inventory()
    for words in (
        "sudo asks for a password",
        "is not supported",
        "spark_cores is 64, the host has",
        "spark_memory is 921600 MiB; the host has",
        "port 8081 (the worker's page) is taken by python3 (pid",
        "cannot be reached",
    ):
        assert words in shown.stdout
        assert words in stopped.stderr
    assert "nothing was changed on any host" in stopped.stderr


def test_a_wrong_key_is_a_matter_of_authentication(bare: Cluster, tmp_path: Path):
    key = tmp_path / "other"
    machines.box.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    bare.write_inventory(worker_1={"ansible_ssh_private_key_file": str(key)})
    try:
        shown = bare("check", code=6)
    finally:
        bare.write_inventory()
    assert "worker-1  sign-in" in shown.stdout
    assert "takes none of our keys" in shown.stdout


def test_a_swapped_host_key_stops_everything(bare: Cluster):
    """S11: another machine behind the same address."""
    known = bare.home / "state/hosts/vagrant/known_hosts"
    before = known.read_text()
    root("worker-2", "mkdir /root/keys && cp -a /etc/ssh/ssh_host_* /root/keys/")
    root("worker-2", "rm /etc/ssh/ssh_host_* && ssh-keygen -A && systemctl restart ssh")
    try:
        with nothing_changes(*HOSTS):
            stopped = bare("up", code=4)
    finally:
        root("worker-2", "cp -a /root/keys/* /etc/ssh/ && systemctl restart ssh")
    assert "worker-2" in stopped.stderr
    assert "shows another host key than before" in stopped.stderr
    assert str(known) in stopped.stderr
    assert known.read_text() == before


@pytest.mark.parametrize("size", [300])
def test_too_little_disk(bare: Cluster, size: int):
    with machines.small_disk("worker-1", "/opt/sparkbundle", size):
        shown = bare("check", code=3)
    assert f"{size} MiB free for /opt/sparkbundle, needed are 5120 MiB" in shown.stdout


def test_an_altered_package_never_leaves_this_machine(bare: Cluster, tmp_path: Path):
    """S12: one flipped byte in a bundle of the controller's cache."""
    cache = Path(bare.env.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sparkbundle/wheelhouse"
    bundle = next((cache / "bundles").glob("torch-*.tar"))
    before = hashlib.sha256(bundle.read_bytes()).hexdigest()
    with bundle.open("r+b") as file:
        file.seek(100_000_000)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    with nothing_changes(*HOSTS):
        done = bare("up", "--check")
    assert "altered" in done.stderr or "damaged" in done.stderr
    assert hashlib.sha256(bundle.read_bytes()).hexdigest() == before


def test_one_run_at_a_time(bare: Cluster):
    """F9: from two laptops; the second learns who holds the lock, and since when."""
    holder = machines.ssh_command("master")
    lock = (
        "sudo python3 -c 'import fcntl, time; f = open(\"/run/lock/sparkbundle.lock\", \"w\");"
        " fcntl.flock(f, fcntl.LOCK_EX); f.write(\"`sparkbundle up` of ann@desk (pid 7) since"
        " 2026-01-01T00:00:00+00:00\"); f.flush(); print(1, flush=True); time.sleep(60)'"
    )  # fmt: skip
    with subprocess.Popen([*holder, lock], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "1\n"
        refused = bare("up", code=5)
        told = bare("up", "--json", code=5)
        other.kill()
    assert "locked by `sparkbundle up` of ann@desk (pid 7) since 2026-01-01" in refused.stderr
    assert json.loads(told.stdout)["code"] == 5
    root("master", "pkill -f '[s]parkbundle.lock'; true")
