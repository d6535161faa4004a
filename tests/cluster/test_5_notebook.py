"""The notebook server on hosts: through a tunnel and published, in a browser and for strangers."""

import http.client
import re
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket
import yaml

from tests.browser import TALK, browsing, kept, open_tiles, printed, run_all_cells, with_parameters
from tests.certificates import write_certificate
from tests.cluster import machines
from tests.cluster.attackers import listeners
from tests.cluster.laptop import Cluster, root
from tests.deploy.conftest import told_first, wait_until
from tests.deploy.notebook_server import Asked

LEAVES_IT_WHOLE = True
MASTER = machines.address("master")
SETTINGS = "/etc/sparkbundle/notebook"
PROFILE = "PySpark (small)"
NAME = "notebook.test"
TRAINING = "--recipe quick --rounds-per-epoch 4 --learning-rate 0.01 --workers 3 --no-plan"


@contextmanager
def tunnel(cluster: Cluster) -> Iterator[Asked]:
    """`open notebook`, as long as the block lasts."""
    process = cluster.popen("open notebook", "--no-browser", "--json")
    told = told_first(process)
    try:
        yield Asked(told["port"], told["url"].partition("token=")[2])
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    with pytest.raises(ConnectionRefusedError):
        Asked(told["port"], "").ask("/")


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[Asked]:
    with tunnel(cluster) as opened:
        yield opened


def upload(server: Asked, name: str, **content: Any) -> None:
    server.json(f"/api/contents/{name}", method="PUT", body=content)


@pytest.mark.long
def test_the_talk_runs_in_a_browser_through_the_tunnel(server: Asked, reviews: Path):
    upload(server, "reviews.tsv", type="file", format="text", content=reviews.read_text())
    notebook = server.json(f"/api/contents/{TALK}")["content"]
    settings = {
        "REVIEWS": f"{notebooks()}/reviews.tsv",
        "VECTORS": "--dimensions 50 --min-count 3 --workers 2",
        "TRAINING": TRAINING,
    }
    content = with_parameters(notebook, settings)
    upload(server, TALK, type="notebook", format="json", content=content)
    with browsing() as browser:
        page = browser.new_page()
        page.goto(server.url)
        page.wait_for_selector(".jp-Launcher-body")
        assert "token" not in page.url, "it is not left in the history"
        kept(page, "hosts-1-launcher")
        run_all_cells(page, server.address, notebook=TALK, shots="hosts-2", seconds=500)
        page.goto(f"{server.address}/lab?reset")  # else the notebook would be in front
        open_tiles(browser, page, shots="hosts-3", worker="worker-1", host="10.0.3.12")
    text = printed(server.json(f"/api/contents/{TALK}")["content"])
    assert re.search(r"[\d.]+% of \d+ reviews are told right", text)


def notebooks() -> str:
    return "/var/lib/sparkbundle/notebook/notebooks"


LOOK = """
import os, pwd
from pathlib import Path
def opens(path):
    try:
        return bool(os.listdir(path) if os.path.isdir(path) else Path(path).read_bytes())
    except OSError:
        return False
print(pwd.getpwuid(os.getuid()).pw_name, [path for path in {paths} if opens(path)])
"""


@pytest.fixture(scope="module")
def kernel(server: Asked) -> Iterator[str]:
    made = server.json("/api/kernels", method="POST", body={"name": "sparkbundle"})["id"]
    yield made
    server.ask(f"/api/kernels/{made}", method="DELETE", token=server.token)


def test_its_user_is_nobody_else_and_reads_nothing_it_need_not(server: Asked, kernel: str):
    hidden = ["/etc/shadow", "/home/vagrant", "/root", "/var/lib/sparkbundle/recovery"]
    seen = [notebooks(), "/etc/sparkbundle/spark-defaults.conf"]
    status, shown = server.cell(kernel, LOOK.replace("{paths}", repr(hidden + seen)))
    assert (status, shown.splitlines()[-1]) == ("ok", f"sparknote {seen}")
    for user in ("vagrant", "sparkjob"):
        for path in (f"{SETTINGS}/token", notebooks()):
            look = f"runuser -u {user} -- find {path} -type f"
            assert root("master", f"{look} -exec cat {{}} +", check=False) == "", path
    token = root("master", f"cat {SETTINGS}/token")
    assert token == server.token and len(token) == 48
    assert token not in root("master", "cat /proc/[0-9]*/cmdline", check=False)
    assert token not in root("master", "journalctl -u spark-notebook")


def test_spark_is_there_on_every_worker_and_gives_its_cores_back(
    server: Asked, kernel: str, cluster: Cluster
):
    where = "__import__('socket').gethostname()"
    code = f"sorted(set(spark.sparkContext.range(60).map(lambda _: {where}).collect()))"
    assert server.cell(kernel, code)[0] == "ok"
    wait_until(lambda: server.cell(kernel, code)[1] == "['worker-1', 'worker-2']", seconds=60)
    assert [one["name"] for one in cluster.json("status")["applications"]] == ["notebook"]
    addresses = set(listeners("master", "sparknote").values())
    assert {address.removeprefix("0000000000000000FFFF0000") for address in addresses} == {
        "0100007F",  # 127.0.0.1
        "0B03000A",  # 10.0.3.11, where executors reach the driver
    }
    wait_until(lambda: not cluster.json("status")["applications"][0]["cores"], seconds=120)
    status, shown = server.cell(kernel, "%spark_settings spark.executor.memory=64g")
    assert status == "error" and "64g is more than a worker of this cluster has: 768m" in shown


def test_strangers_get_in_nowhere(server: Asked, kernel: str):
    for path, status in {"/lab": 302, "/api/kernels": 403, "/spark/": 302}.items():
        assert server.ask(path)[0] == server.ask(path, token="wrong")[0] == status, path
    assert server.ask("/api/kernels", token=server.token, host="evil.example")[0] == 403
    for host in ("10.0.3.12:22", "worker-1:8081", f"{MASTER}:8080"):
        assert server.ask(f"/proxy/{host}/", token=server.token)[0] == 403, host
    for around in ("/proxy/8080/", "/proxy/18080/"):
        assert server.ask(around, token=server.token)[0] in {403, 500, 599}, around
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        websocket.create_connection(f"ws://127.0.0.1:{server.port}/api/kernels/{kernel}/channels")
    assert caught.value.status_code == 403
    asked = machines.ssh("master", "python3 -", given=ASK)
    assert asked.stdout.strip() == "403", "another user of the host"
    assert listeners("master", "sparknote")[8888] == "0100007F"
    for name in ("outsider", "worker-1"):
        assert not connects(name, MASTER, 8888), name


ASK = """
import urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://127.0.0.1:8888/api/kernels", timeout=20).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def connects(name: str, address: str, port: int) -> bool:
    code = f"import socket; socket.create_connection(('{address}', {port}), 3)"
    done = machines.ssh(name, f'python3 -c "{code}"', check=False)
    return done.returncode == 0


@pytest.mark.long
def test_a_kernel_keeps_the_server_as_it_is_until_it_has_ended(
    server: Asked, kernel: str, cluster: Cluster
):
    cluster.change_inventory(notebook_profiles={PROFILE: {"spark.cores.max": 1}})
    done = cluster("up")
    assert "goes on as it was, since kernels run" in done.stderr
    assert kernel in end_kernels(server)
    done = cluster("up")
    assert "goes on as it was" not in done.stderr and "and in a notebook" in done.stderr
    specs = server.json("/api/kernelspecs")["kernelspecs"]
    assert PROFILE in {one["spec"]["display_name"] for one in specs.values()}
    cluster.invariant()


def end_kernels(server: Asked) -> list[str]:
    """End all kernels; those that there were."""
    kernels = [one["id"] for one in server.json("/api/kernels")]
    for one in kernels:
        server.ask(f"/api/kernels/{one}", method="DELETE", token=server.token)
    return kernels


def test_a_server_that_was_killed_comes_back_and_the_tunnel_goes_on(
    server: Asked, cluster: Cluster
):
    pid = "systemctl show -P MainPID spark-notebook"
    before = root("master", pid)
    root("master", "systemctl kill -s KILL spark-notebook")
    wait_until(lambda: root("master", pid) not in (before, "0\n"), seconds=60)

    def answers() -> bool:
        try:
            return server.ask("/api/status", token=server.token)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    wait_until(answers, seconds=60)
    cluster.invariant()


@pytest.mark.long
def test_published_it_speaks_tls_under_its_name_alone(
    server: Asked, cluster: Cluster, tmp_path: Path
):
    end_kernels(server)
    certificate, key = write_certificate(tmp_path, NAME)
    cluster.change_inventory(
        notebook_name=NAME,
        notebook_certificate=str(certificate),
        notebook_key=str(key),
    )
    cluster("up")
    try:
        told = cluster.json("open notebook", "--no-browser")
        assert told["url"].startswith(f"https://{NAME}/lab?token=")
        token = told["url"].partition("token=")[2]
        context = ssl.create_default_context(cafile=certificate)
        assert public(context, "/api/status", token=token)[0] == 200
        assert public(context, "/api/kernels")[0] == 403
        assert public(context, "/api/kernels", token=token, host="evil.example")[0] == 403
        assert public(context, "/api/kernels", token=token, host=MASTER)[0] == 403
        assert "secure" in public(context, f"/lab?token={token}")[1].lower()
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with pytest.raises(ssl.SSLError):
                public(old(certificate, version), "/api/status", token=token)
        assert public(old(certificate, ssl.TLSVersion.TLSv1_2), "/api/status", token=token)
        assert connects("outsider", MASTER, 443) and not connects("outsider", MASTER, 8888)
        assert not connects("outsider", "10.0.3.12", 443)
        cluster.invariant()
    finally:
        names = ("notebook_name", "notebook_certificate", "notebook_key")
        cluster.change_inventory(**dict.fromkeys(names))
        cluster("up")
    assert not connects("outsider", MASTER, 443)
    assert root("master", f"ls {SETTINGS}").split() == [
        "jupyter_server_config.json", "kernels", "labconfig", "tile.json", "token",
    ]  # fmt: skip
    cluster.invariant()


def old(certificate: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that speaks this version of TLS and none later."""
    context = ssl.create_default_context(cafile=certificate)
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def public(
    context: ssl.SSLContext, path: str, *, token: str = "", host: str = NAME
) -> tuple[int, str]:
    """The status and cookies that the published server answers with, asked as a browser does."""
    connection = http.client.HTTPSConnection(NAME, 443, timeout=20, context=context)
    plain = socket.create_connection((MASTER, 443), 20)
    connection.sock = context.wrap_socket(plain, server_hostname=NAME)
    headers = {"Host": host, **({"Authorization": f"token {token}"} if token else {})}
    connection.request("GET", path, headers=headers)
    with connection.getresponse() as answer:
        return answer.status, answer.headers.get("Set-Cookie", "")


@pytest.mark.long
def test_without_a_host_in_the_inventory_it_goes_and_its_notebooks_stay(
    server: Asked, cluster: Cluster
):
    before = cluster.inventory.read_text()
    tree = yaml.safe_load(before)
    del tree["all"]["children"]["notebook"]
    tree["all"]["vars"].pop("notebook_profiles", None)
    cluster.inventory.write_text(yaml.safe_dump(tree, sort_keys=False))
    try:
        cluster("up")
        assert "this cluster has no notebook server" in cluster("open notebook", code=3).stderr
        assert TALK in root("master", f"ls {notebooks()}")
        listed = "systemctl list-unit-files --plain --no-legend 'spark-notebook*'"
        assert root("master", listed, check=False) == ""
        cluster.invariant()
    finally:
        cluster.inventory.write_text(before)
        cluster("up")
    cluster.invariant()
