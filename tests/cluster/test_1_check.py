"""`check`, and what stops a deploy before it has changed anything: all with bare hosts."""

import json
import subprocess
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import machines
from tests.cluster.laptop import HOSTS, Cluster, root

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


def test_all_problems_of_all_hosts_come_in_one_table(bare: Cluster, tmp_path: Path):
    """A refused key, no connection, sudo with a password, a wrong system, a taken port, a small
    disk, too much asked for."""
    key = tmp_path / "other"
    machines.box.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    root("master", "mv /etc/sudoers.d/vagrant /root/vagrant.sudoers")
    root("worker-1", "mv /usr/lib/os-release /root/; echo ID=fedora > /usr/lib/os-release")
    root("worker-1", "systemd-run --unit=squatter python3 -m http.server 8081")
    bare.write_inventory(
        worker_1={"spark_cores": 64, "spark_memory": "900g"},
        worker_2={"ansible_host": "10.0.3.99"},
        worker_3={
            "ansible_host": machines.address("outsider"),
            "ansible_ssh_private_key_file": str(key),
        },
    )
    try:
        with (
            machines.small_disk("worker-1", "/opt/sparkbundle", 300),
            nothing_changes(*HOSTS, "outsider"),
        ):
            shown = bare("check", code=6)
            stopped = bare("up", code=6)
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
        "300 MiB free for /opt/sparkbundle, needed are 5120 MiB",
        "cannot be reached",
        "takes none of our keys",
    ):
        assert words in shown.stdout
        assert words in stopped.stderr
    assert "worker-3  sign-in" in shown.stdout
    assert "nothing was changed on any host" in stopped.stderr


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
