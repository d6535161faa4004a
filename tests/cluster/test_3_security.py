"""The cluster under attack: from a stranger in its network, from its own hosts, from inside a job.

Strangers have no secret: the `outsider` is no host of the cluster; the "insider" is an ordinary
user of worker-1, whose address the firewall lets in. What they run is in attacks.py. Each test
also shows that the same attack is seen where it must succeed.
"""

import base64
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jwt
import pytest

from sparkbundle.page_token import token
from sparkbundle.spark_settings import Secrets, new_secrets
from tests.cluster import machines
from tests.cluster.attackers import (
    ADDRESSES,
    ATTACKS,
    KINDS,
    SMALL,
    ask,
    attack,
    intrude,
    job,
    listeners,
    told,
    words_of,
)
from tests.cluster.laptop import HOSTS, WORKERS, Cluster, executors, output, root
from tests.deploy.conftest import wait_until

LEAVES_IT_WHOLE = True
SERVICES = ("spark", "sparkjob")
HIDDEN = "tests-look-for-this"


@pytest.fixture(scope="module")
def secrets(cluster: Cluster) -> Secrets:
    return cluster.secrets()


@pytest.fixture(scope="module")
def sleeping(cluster: Cluster) -> Iterator[str]:
    """The id of a job that runs as long as the tests."""
    name = ("--conf", "spark.app.name=sleeper")
    done = cluster("submit", "--json", *SMALL, *name, ATTACKS, "sleep", 600)
    job_id = json.loads(done.stdout)["id"]
    wait_until(lambda: "TURN 0 " in output(job_id), seconds=90)
    yield job_id
    cluster("cancel", job_id)


@pytest.fixture(scope="module")
def running(cluster: Cluster, sleeping: str) -> str:
    """The id of that job's application."""
    return application(cluster)


def application(cluster: Cluster) -> str:
    apps = cluster.json("status")["applications"]
    return next((app["id"] for app in apps if app["name"] == "sleeper"), "")


@pytest.fixture(scope="module", autouse=True)
def slow(cluster: Cluster, secrets: Secrets) -> Iterator[dict[str, "Future[Any]"]]:
    """What takes a while begins before all tests: the drivers of strangers, and the port scan."""
    machines.ssh("worker-1", "cat > attacks.py", given=ATTACKS.read_text())
    # So many connections would fill the table in which this computer tracks them.
    rule = f"PREROUTING -s {machines.address('outsider')} -p tcp -j CT --notrack".split()
    subprocess.run(["iptables", "-w", "-t", "raw", "-I", *rule], check=False)
    with ThreadPoolExecutor() as pool:
        begun = {kind: pool.submit(intrude, kind, secrets) for kind in KINDS}
        begun["scan"] = pool.submit(attack, "outsider", "scan", *ADDRESSES.values())
        yield begun
    subprocess.run(["iptables", "-w", "-t", "raw", "-D", *rule], check=False)


# ---------------------------------------------------------------- the network


def test_s5_no_daemon_and_no_job_listens_on_every_address(cluster: Cluster, running: str):
    found = {(name, user): listeners(name, user) for name in HOSTS for user in SERVICES}
    assert {7077, 8080, 18080} <= set(found["master", "spark"])
    assert {4040} < set(found["master", "sparkjob"])  # its page, and where executors reach it
    for worker in WORKERS:
        assert {7078, 8081} <= set(found[worker, "spark"])
    assert max(len(found[worker, "spark"]) for worker in WORKERS) > 2  # an executor is there
    for where, ports in found.items():
        for port, address in ports.items():
            plain = address.removeprefix("0000000000000000FFFF0000")  # IPv4 in IPv6
            assert plain.strip("0"), (where, port)


def test_s2_the_port_of_rest_submissions_is_closed(running: str):
    found = attack("worker-1", "connect", ADDRESSES["master"], "7077", "6066")
    assert found == {"7077": "open", "6066": "Connection refused"}


def test_s1_over_ipv6_the_outsider_gets_through_to_ssh_only(cluster: Cluster):
    root("worker-1", "systemd-run --unit=six python3 -m http.server --bind :: 8099")
    show = "ip -6 -o address show dev eth0 scope link"
    six = re.findall(r"fe80::[0-9a-f:]+", root("worker-1", show))[0]
    try:
        wait_until(lambda: "*:8099" in root("worker-1", "ss -ltn"), seconds=20)
        assert attack("worker-1", "connect", "::1", "8099") == {"8099": "open"}
        found = attack("outsider", "connect", f"{six}%eth0", "22", "8099")
    finally:
        root("worker-1", "systemctl stop six")
    assert found == {"22": "open", "8099": "timed out"}


# ---------------------------------------------------------------- the pages


def pages(app: str) -> list[str]:
    """Addresses of pages of the master, a worker, the history server and a running job."""
    master, worker = ADDRESSES["master"], ADDRESSES["worker-1"]
    log = f"logPage/?appId={app}&executorId=0&logType=stderr"
    return [
        *(f"{master}:8080/{path}" for path in ("", "json/", f"app/?appId={app}", "environment/")),
        *(f"{master}:8080/metrics/{path}/json/" for path in ("master", "applications")),
        *(f"{worker}:8081/{path}" for path in ("", "json/", "metrics/json/", log)),
        *(f"{master}:18080/{path}" for path in ("", "api/v1/applications")),
        f"{master}:18080/api/v1/applications/{app}/environment",
        *(f"{master}:4040/{path}" for path in ("jobs/", "environment/", "metrics/json/")),
        *(f"{master}:4040/{path}" for path in ("api/v1/applications", "static/webui.css")),
        f"{master}:4040/api/v1/applications/{app}/environment",
        f"{master}:4040/executors/threadDump/?executorId=driver",
    ]


def test_s6_no_page_answers_without_a_good_token(running: str, secrets: Secrets):
    key, now = base64.urlsafe_b64decode(secrets.ui_key), int(time.time())
    bad = (
        token(new_secrets().ui_key),  # signed by somebody else
        jwt.encode({"exp": now - 5}, key, algorithm="HS256"),  # of yesterday
        jwt.encode({"sub": "me"}, key, algorithm="HS256"),  # for ever
        jwt.encode({"exp": now + 60}, None, algorithm="none"),  # not signed
    )
    asked = pages(running)
    refused = ask(*(f"GET {url} {one}".rstrip() for url in asked for one in ("", *bad)))
    assert {code for code, _ in refused} == {403}
    good = ask(*(f"GET {url} {token(secrets.ui_key)}" for url in asked))
    assert {url: code for url, (code, _) in zip(asked, good, strict=True) if code != 200} == {}


def test_s8_no_page_shows_a_secret(running: str, secrets: Secrets):
    answers = ask(*(f"GET {url} {token(secrets.ui_key)}" for url in pages(running)))
    assert sum("spark.authenticate.secret" in text for _, text in answers) >= 3
    assert not any(one in text for _, text in answers for one in words_of(secrets))


def test_s7_no_page_ends_an_application_or_a_worker(
    cluster: Cluster, running: str, secrets: Secrets
):
    master, key = ADDRESSES["master"], token(secrets.ui_key)
    actions = (
        f"{master}:8080/app/kill/?id={running}&terminate=true",
        f"{master}:8080/workers/kill/?host={ADDRESSES['worker-1']}",
        f"{master}:4040/jobs/job/kill/?id=0",
        f"{master}:4040/stages/stage/kill/?id=0&terminate=true",
    )
    assert {code for code, _ in ask(*(f"POST {url}" for url in actions))} == {403}
    assert {code for code, _ in ask(*(f"POST {url} {key}" for url in actions))} <= {403, 405}
    ask(*(f"GET {url} {key}" for url in actions))
    told = json.loads(ask(f"GET {master}:8080/json/ {key}")[0][1])
    assert running in [app["id"] for app in told["activeapps"] if app["state"] == "RUNNING"]
    assert [worker["state"] for worker in told["workers"]] == ["ALIVE", "ALIVE"]


# ---------------------------------------------------------------- jobs


def test_s10_a_job_is_confined_in_its_driver_and_in_its_tasks(cluster: Cluster, running: str):
    """No writing to the system, no homes, no new rights: not what root may do, of whom nothing."""
    hide = f"cp /bin/cat /usr/local/bin/{HIDDEN}; chmod 4755 /usr/local/bin/{HIDDEN}; "
    hide += f"echo x | tee /home/{HIDDEN} /root/{HIDDEN} /run/{HIDDEN} > /tmp/{HIDDEN}"
    try:
        for name in HOSTS:
            root(name, hide)
        assert machines.ssh("worker-1", f"{HIDDEN} /etc/shadow; cat /home/{HIDDEN}").stdout > "r"
        found = job(cluster, "confined", HIDDEN)
        free = attack("worker-1", "attempts", HIDDEN, sudo=True)
    finally:
        places = "/usr /usr/local/bin /etc /etc/sparkbundle /opt/sparkbundle /var/lib/sparkbundle"
        for name in HOSTS:
            each = f"for p in {places} /root /home /run /tmp; do rm -f $p/{HIDDEN}; done"
            root(name, f"{each}; rm -f /home/vagrant/mine /home/vagrant/own.txt")
    assert len(free["done"]) == 19
    for side, user, name in (("driver", "sparkjob", "master"), ("task", "spark", "worker-1")):
        assert found[side]["done"] == []
        assert found[side]["status"]["NoNewPrivs"] == "1"
        assert int(found[side]["status"]["CapBnd"], 16) == 0
        assert found[side]["uid"] == int(root(name, f"id -u {user}"))
        assert found[side]["sees"] == [found[side]["uid"]]


def test_s4_nobody_on_the_network_reads_what_a_job_sends(cluster: Cluster, running: str):
    """A word in a broadcast, a closure and a result; another one, sent in plain, is seen."""
    secret, plain, master = (
        "canary-" + os.urandom(16).hex(),
        "plain-" + os.urandom(16).hex(),
        ADDRESSES["master"],
    )
    command = f"sudo python3 - sniff eth0 {plain}-end {secret} {plain}"
    line = [*machines.ssh_command("master"), command]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(line, text=True, **streams) as process:
        assert process.stdin and process.stdout
        process.stdin.write(ATTACKS.read_text())
        process.stdin.close()
        assert process.stdout.readline() == "ready\n"
        off = [f"spark.{what}.compress=false" for what in ("broadcast", "shuffle", "rdd")]
        settings = tuple(word for one in off for word in ("--conf", one))
        assert job(cluster, "broadcast", secret, settings=settings) == {"arrived": True}
        for word in (plain, f"{plain}-end"):
            with socket.create_connection((master, 22), timeout=10) as link:
                link.sendall(word.encode())
        seen = told(process.stdout.read())
    assert seen["seen"] == [plain]
    assert seen["lost"] == 0
    assert seen["sent"][master] > 4 << 20  # all of the broadcast, as it was not compressed


# ---------------------------------------------------------------- strangers


def test_s1_the_outsider_finds_ssh_and_nothing_else(slow: dict[str, "Future[Any]"]):
    assert slow["scan"].result(120) == {address: [22] for address in ADDRESSES.values()}
    peers = attack("worker-1", "scan", ADDRESSES["master"])[ADDRESSES["master"]]
    assert {22, 7077, 8080, 18080} <= set(peers)
    assert 6066 not in peers


@pytest.mark.parametrize("kind", KINDS)
def test_s3_the_insider_gets_in_with_the_right_secret_only(
    cluster: Cluster, slow: dict[str, "Future[Any]"], kind: str
):
    done = slow[kind].result(180)
    let_in = f"Registered app insider-{kind} " in root("master", "journalctl -u spark-master")
    if kind == "right":
        assert done.returncode == 0, done.stdout
        assert told(done.stdout) == {"count": 6000}
        assert let_in
    else:
        assert done.returncode != 0
        assert "TOLD" not in done.stdout
        assert "All masters are unresponsive" in done.stdout, done.stdout[-3000:]
        assert not let_in


# ---------------------------------------------------------------- the secrets


def test_s8_the_secrets_are_in_few_files_and_only_root_and_the_services_read_them(
    running: str, secrets: Secrets
):
    """Looked for in every file outside of the packages: logs, event logs, jobs, recovery …"""
    places = "/etc /home /root /run /tmp /var /dev/shm /opt/sparkbundle/libexec"
    search = f"grep -rlsF -D skip -f /dev/stdin {places}"
    kept = {"secrets.json", "spark-defaults.conf", "master.properties", "history.properties"}
    for name in HOSTS:
        given = "".join(f"{word}\n" for word in words_of(secrets))
        found = machines.ssh(name, f"sudo {search}", given=given, check=False).stdout.split()
        if name == "master":
            assert set(found) == {f"/etc/sparkbundle/{file}" for file in kept}
        else:
            here = {"/etc/sparkbundle/secrets.json", "/etc/sparkbundle/worker.properties"}
            assert set(found) == here | {"/run/spark-worker/worker.properties"}
        for line in root(name, f"stat -c '%a %U %G %n' {' '.join(found)}").splitlines():
            assert re.match(r"640 root spark /etc/|6[04]0 spark spark /run/spark-worker/", line)
        # An ordinary user finds nothing.
        assert not machines.ssh(name, search, given=given, check=False).stdout


def test_s8_no_other_user_sees_a_secret_in_a_process_or_a_journal(running: str, secrets: Secrets):
    look = "cat /proc/[0-9]*/{} 2>/dev/null | tr '\\0' '\\n'"
    lines, environments = "", ""
    for name in HOSTS:
        lines += machines.ssh(name, look.format("cmdline")).stdout
        lines += root(name, "journalctl --no-pager --all --output=cat")
        mine = machines.ssh(name, look.format("environ")).stdout
        assert "HOME=/home/vagrant" in mine
        assert "SPARK" not in mine
        environments += root(name, look.format("environ"))
    assert "CoarseGrainedExecutorBackend" in lines
    assert "Registered app sleeper" in lines
    assert secrets.rpc in environments  # an executor's: there was something to be seen
    assert not any(word in lines for word in words_of(secrets))


def test_after_all_attacks_the_job_runs_and_cancel_ends_it_and_frees_the_cluster(
    cluster: Cluster, sleeping: str, running: str
):
    assert application(cluster) == running
    cluster("cancel", sleeping)
    assert cluster.state(sleeping) == "CANCELLED"
    wait_until(lambda: not cluster.json("status")["applications"], seconds=60)
    again = cluster("cancel", sleeping)
    assert "nothing to do" in again.stderr + again.stdout
    for worker in WORKERS:
        wait_until(lambda name=worker: executors(name) == 0, seconds=30)
    cluster.invariant()
