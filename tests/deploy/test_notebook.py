"""`sparkbundle open notebook`: the server of the cluster on this machine, and who gets in."""

import http.client
import json
import os
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import websocket
import zmq

from sparkbundle import ports
from tests.deploy.conftest import CommandLine, wait_until
from tests.deploy.notebook_server import Kernel, Server

ADDRESS = "http://127.0.0.1"


SOON_IDLE = " ".join(
    f"spark.dynamicAllocation.{key}=1s"
    for key in ("executorIdleTimeout", "shuffleTracking.timeout")
)


def test_a_folder_or_a_port_that_cannot_be_had_is_named(notebooks: CommandLine):
    opened = ("open", "notebook", "--no-browser")
    refused = notebooks(*opened, "--folder", "/proc/notebooks", code=3)
    assert "name another place: --folder DIRECTORY" in refused.stderr
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = str(other.getsockname()[1])
        refused = notebooks(*opened, "--port", taken, code=3)
        assert f"port {taken} is taken by process {os.getpid()}" in refused.stderr


def test_it_begins_where_it_is_told(notebooks: CommandLine):
    chosen = str(ports.choose_free())
    folder = notebooks.home / "elsewhere"
    opened = notebooks.json(
        "open", "notebook", "--no-browser", "--port", chosen, "--folder", str(folder)
    )
    assert opened["port"] == int(chosen) and list(folder.glob("*.ipynb"))
    for process in notebooks.processes("default", "notebook"):
        process.kill()  # the other tests' is begun anew
    wait_until(lambda: not notebooks.processes("default", "notebook"))


def test_only_the_token_lets_in(server: Server):
    for path, stranger in {"/lab": 302, "/api/kernels": 403, "/spark/": 302}.items():
        assert server.ask(path)[0] == stranger, path
        assert server.ask(path, token="wrong")[0] == stranger, path
    assert server.ask("/tensorboard/data/plugins_listing")[0] in {302, 403}
    assert server.ask("/api/kernels", token=server.token)[0] == 200
    body = {"name": "sparkbundle"}
    assert server.ask("/api/kernels", method="POST", body=body)[0] == 403
    assert server.json("/api/kernels") == []


def test_a_page_of_another_name_is_refused(server: Server):
    for host in ("evil.example", f"evil.example:{server.port}"):
        assert server.ask("/api/kernels", token=server.token, host=host)[0] == 403


def test_no_other_host_is_reached_through_it(server: Server):
    for path in ("/proxy/192.0.2.7:22/", "/proxy/absolute/192.0.2.7:22/", "/proxy/10.0.3.11:8080/"):
        status, text = server.ask(path, token=server.token)
        assert (status, b"allow" in text.lower()) == (403, True), path


def test_only_this_machine_reaches_it_and_nobody_sees_the_token(server: Server):
    processes = server.processes()
    listens = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listens == {"127.0.0.1"}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            assert not any(server.token in word for word in process.cmdline()), process
    holding = [
        path
        for path in server.run.home.rglob("*")
        if path.is_file() and not path.is_symlink() and server.token.encode() in path.read_bytes()
    ]
    assert len(holding) >= 2
    for path in holding:
        way = [path, *path.parents][: -len(server.run.home.parents)]
        assert any(stat.S_IMODE(one.stat().st_mode) & 0o077 == 0 for one in way), path


def test_a_websocket_needs_the_token_too(server: Server, kernel: Kernel):
    address = f"ws://127.0.0.1:{server.port}/api/kernels/{kernel.id}/channels"
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        websocket.create_connection(address, timeout=20)
    assert caught.value.status_code == 403
    header = [f"Authorization: token {server.token}"]
    websocket.create_connection(address, timeout=20, header=header).close()


def test_another_user_of_the_machine_hears_nothing_of_a_kernel(server: Server, kernel: Kernel):
    ports = json.loads(kernel.file.read_text())
    context = zmq.Context()
    with context.socket(zmq.SUB) as plain, context.socket(zmq.SUB) as theirs:
        for listener in (plain, theirs):
            listener.subscribe(b"")
            listener.RCVTIMEO = 1000  # ms; what they could hear has been said by then
        # Somebody with keys, but not with the server's: a guess.
        theirs.curve_publickey, theirs.curve_secretkey = zmq.curve_keypair()
        theirs.curve_serverkey = zmq.curve_keypair()[0]
        for listener in (plain, theirs):
            listener.connect(f"tcp://127.0.0.1:{ports['iopub_port']}")
        time.sleep(1)  # a subscription takes its time, and says nothing when it is there
        assert kernel.run("print('what nobody else hears')")[0] == "ok"
        for listener in (plain, theirs):
            with pytest.raises(zmq.Again):
                listener.recv_multipart()
    assert stat.S_IMODE(kernel.file.stat().st_mode) & 0o077 == 0


def test_sparks_pages_need_the_servers_token_and_around_it_sparks_own(server: Server):
    status, page = server.ask("/spark/", token=server.token)
    assert status == 302
    record = json.loads((server.run.directory("default") / "cluster.json").read_text())
    master = record["ui"].removeprefix("http://")
    status, page = server.ask(f"/spark/at/{master}/", token=server.token)
    assert status == 200 and b"worker-1" in page and b"/spark/at/127.0.0.1:" in page
    for stranger in (f"/spark/at/{master}/json/", f"/spark/at/{master}/"):
        assert server.ask(stranger)[0] in {302, 403}
    assert server.ask(f"/spark/at/127.0.0.1:{server.port}/api/status", token=server.token)[0] == 403
    port = int(master.rpartition(":")[2])
    for around in ("/", "/json/", "/metrics/master/json/"):
        assert server.ask(f"/proxy/{port}{around}", token=server.token)[0] == 403
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", around)
        assert connection.getresponse().status == 403
    sockets = [p for p in server.processes() if "sparkbundle.tile" in p.cmdline()]
    for path in (Path(process.cmdline()[-2]) for process in sockets):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, "another user could open it"
    assert sockets


def test_spark_is_there_when_a_cell_names_it(server: Server, kernel: Kernel):
    assert kernel.run("1 + 1") == ("ok", "2")
    assert server.run.json("status")["applications"] == [], "nobody has asked for Spark"
    status, shown = kernel.run("spark.range(1000).repartition(4).count()")
    assert status == "ok" and shown.endswith("1000")
    (application,) = server.run.json("status")["applications"]
    assert application["name"] == "notebook"
    assert kernel.run("spark.sparkContext.uiWebUrl")[1].startswith("'http://127.0.0.1:")
    status, shown = kernel.run("spark.range(3).selectExpr('nonsense(id)')")
    assert status == "error" and "UNRESOLVED_ROUTINE" in shown


def test_more_than_the_cluster_has_is_refused_at_once(kernel: Kernel):
    status, shown = kernel.run("%spark_settings spark.executor.memory=64g")
    assert status == "error" and "64g is more than a worker of this cluster has: 1024m" in shown
    assert "Traceback" not in shown
    status, shown = kernel.run("%spark_settings memory=64g")
    assert status == "error" and "'memory' is no setting" in shown
    assert kernel.run("spark.range(10).count()")[1].endswith("10"), "the settings of before stay"
    status, shown = kernel.run("%spark_settings spark.cores.max=two")
    assert status == "error" and "Spark did not start" in shown
    assert kernel.run("spark.range(10).count()")[1].endswith("10"), "another JVM, as before"
    status, shown = kernel.run(f"%spark_settings spark.cores.max=1 {SOON_IDLE}")
    assert status == "ok" and "spark.cores.max=1" in shown
    assert kernel.run("spark.conf.get('spark.cores.max')")[1] == "'1'"


def test_an_idle_kernel_gives_its_cores_back(server: Server, kernel: Kernel):
    """Sooner than by the kernel's own settings: the session has those of the test before."""
    give_back(server, kernel)


@pytest.mark.long
def test_an_idle_kernel_gives_its_cores_back_by_its_own_settings(server: Server):
    """As the test above, which takes a second in the place of twenty."""
    kernel = Kernel(server)
    give_back(server, kernel)
    kernel.end()


def give_back(server: Server, kernel: Kernel) -> None:
    assert kernel.run("spark.range(10).count()")[0] == "ok"
    wait_until(lambda: not any(one["cores"] for one in server.run.json("status")["applications"]))
    assert kernel.run("spark.range(10).count()")[0] == "ok"


def test_it_runs_already(server: Server):
    assert server.run.json("status")["notebook"] == f"{ADDRESS}:{server.port}"
    assert "sparkbundle open notebook" in server.run("status").stdout
    again = server.run.json("open", "notebook", "--no-browser")
    assert again["url"] == f"{ADDRESS}:{server.port}/lab?token={server.token}"
    for option, value in {"--folder": "/tmp", "--port": str(server.port + 1)}.items():
        refused = server.run("open", "notebook", option, value, code=3)
        assert f"runs already, and its {option} is " in refused.stderr
    assert len([p for p in server.processes() if "jupyterlab" in p.cmdline()]) == 1


def test_the_bundles_notebooks_are_there_and_the_users_stay(server: Server):
    folder = server.run.home / "sparkbundle-notebooks"
    listed = {one["name"] for one in server.json("/api/contents")["content"]}
    brought = {path.name for path in Path("job/notebooks").glob("*.ipynb")}
    assert brought and brought <= listed == {path.name for path in folder.iterdir()}


def test_a_browser_that_is_opened_is_signed_in(server: Server, tmp_path: Path):
    seen = tmp_path / "seen"
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\nprintf %s "$1" > {seen}\n')
    script.chmod(0o755)
    server.run("open", "notebook", BROWSER=str(script))
    address = wait_until(lambda: seen.exists() and seen.read_text())
    assert address.startswith("file://") and server.token not in address
    page = Path(address.removeprefix("file://"))
    assert server.token in page.read_text() and stat.S_IMODE(page.stat().st_mode) == 0o600
    assert (
        "no browser can be opened" in server.run("open", "notebook", BROWSER="", DISPLAY="").stderr
    )
