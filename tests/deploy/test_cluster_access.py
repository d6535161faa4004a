"""Who gets in, and who does not: a running cluster seen by somebody on the same machine."""

import base64
import http.client
import json
import re
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from sparkbundle.page_token import token
from tests.deploy.conftest import INTRUDER, CommandLine, wait_until

KEY = "spark.org.apache.spark.ui.JWSFilter.param.secretKey"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

pytestmark = pytest.mark.usefixtures("intruders")


def fetch(url: str, *, bearer: str | None = None, data: bytes | None = None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    try:
        with OPENER.open(urllib.request.Request(url, data, headers), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def pages(shared: CommandLine) -> list[str]:
    """The web addresses of the master and the workers."""
    record = shared.json("status", "--name", "one")
    bearer = token(shared.properties("one")[KEY])
    workers = json.loads(fetch(f"{record['ui']}/json/", bearer=bearer)[1])["workers"]
    return [record["ui"], *(worker["webuiaddress"] for worker in workers)]


def test_the_record_is_what_the_job_reads(shared: CommandLine):
    directory = shared.directory("one")
    record = json.loads((directory / "cluster.json").read_text())
    assert record["format"] == 1
    assert record["name"] == "one"
    assert re.fullmatch(r"spark://127\.0\.0\.1:\d+", record["master"])
    assert record["properties"] == str(directory / "conf/client.properties")
    assert (record["workers"], record["memory"]) == (2, "512m")
    assert record["cores"] >= 1
    assert shared.properties("one")["spark.master"] == record["master"]


def test_an_application_with_the_properties_runs_on_every_worker(shared: CommandLine):
    """The program of the intruders, with the secret."""
    driver = shared.application(INTRUDER, shared.directory("one") / "conf/client.properties", "own")
    out, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0 and "LET IN" in out, out
    found = re.findall(r"'([^']*)', '([^']*)', (\d+)", out)
    assert sum(int(total) for _, _, total in found) == 499500
    work = str(shared.directory("one") / "work") + "/"
    assert {path.removeprefix(work).split("/")[0] for path, _, _ in found} == {
        "worker-1",
        "worker-2",
    }
    assert {python for _, python, _ in found} == {sys.executable}


def test_web_pages_answer_to_a_fresh_token_only(shared: CommandLine):
    key = shared.properties("one")[KEY]
    other = base64.urlsafe_b64encode(b"x" * 32).decode()
    for page in pages(shared):
        for path in ("/", "/json/", "/metrics/prometheus/", "/static/webui.css"):
            assert fetch(page + path)[0] == 403, page + path
        assert fetch(f"{page}/json/", bearer=token(other))[0] == 403
        assert fetch(f"{page}/json/", bearer=f"{token(key)}x")[0] == 403
        assert fetch(f"{page}/json/", bearer=token(key))[0] == 200


def test_a_token_without_an_end_is_refused(shared: CommandLine):
    import jwt

    key = base64.urlsafe_b64decode(shared.properties("one")[KEY])
    page = pages(shared)[0]
    assert fetch(f"{page}/json/", bearer=jwt.encode({}, key, "HS256"))[0] == 403
    assert fetch(f"{page}/json/", bearer=jwt.encode({"exp": 1}, key, "HS256"))[0] == 403


SLEEP = """
import time
from pyspark import SparkContext
context = SparkContext(appName="sleeper")
print("ID", context.applicationId, flush=True)
context.parallelize(range(2), 2).foreach(lambda _: time.sleep(600))
"""


def test_no_page_ends_an_application(shared: CommandLine):
    driver = shared.application(SLEEP, shared.directory("one") / "conf/client.properties")
    try:
        line = ""
        while not line.startswith("ID"):
            line = driver.stdout.readline()
            assert line, "the driver ended"
        identity = line.split()[1]
        page, bearer = pages(shared)[0], token(shared.properties("one")[KEY])
        data = f"id={identity}&terminate=true".encode()
        assert fetch(f"{page}/app/kill/", data=data)[0] == 403
        assert fetch(f"{page}/app/kill/", data=data, bearer=bearer)[0] in (403, 405)
        assert fetch(f"{page}/workers/kill/", data=b"host=127.0.0.1", bearer=bearer)[0] in (
            403,
            405,
        )
        found = shared.json("status", "--name", "one")
        assert [app["id"] for app in found["applications"]] == [identity]
        assert found["healthy"]
        # `up` with an application on it looks, and lets it be.
        assert shared.json("up", "--name", "one")["changed"] == []
    finally:
        for process in [*psutil.Process(driver.pid).children(recursive=True), driver]:
            process.kill()
        driver.communicate()
    wait_until(lambda: not shared.json("status", "--name", "one")["applications"])


def test_the_rest_submission_server_is_off(shared: CommandLine):
    ours = {process.pid for process in shared.processes("one")}
    held = [c for c in psutil.net_connections("tcp") if c.laddr.port == 6066 and c.pid in ours]
    assert held == []
    for port in {c.laddr.port for c in listeners(shared)}:
        # A REST server would answer with JSON to this path, on whatever port.
        try:
            answer = fetch(f"http://127.0.0.1:{port}/v1/submissions/status/x")
        except (OSError, http.client.HTTPException):
            continue  # speaks no HTTP: Spark's own protocol, cut off or answered in bytes
        assert answer[0] == 403
        assert b"serverSparkVersion" not in answer[1]


def listeners(shared: CommandLine):
    ours = {process.pid for process in shared.processes("one")}
    return [
        connection
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.pid in ours
    ]


def test_every_listener_is_on_loopback(shared: CommandLine):
    found = listeners(shared)
    assert len(found) >= 6  # master and two workers: a port for Spark, a port for the page
    assert {c.laddr.ip.removeprefix("::ffff:") for c in found} == {"127.0.0.1"}


def test_secrets_are_in_private_files_and_nowhere_else(shared: CommandLine):
    properties = shared.properties("one")
    secrets = [properties["spark.authenticate.secret"], properties[KEY]]
    directory = shared.directory("one")
    holders = set()
    for path in directory.rglob("*"):
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets):
            holders.add(path.relative_to(directory).as_posix())
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert path.stat().st_uid == psutil.Process().uids().real
    assert holders == {
        "conf/secrets.json",
        "conf/master.properties",
        "conf/worker-1.properties",
        "conf/worker-2.properties",
        "conf/client.properties",
    }
    ps = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True)
    shown = [
        shared("status", "--name", "one").stdout,
        shared("status", "--name", "one", "--json").stdout,
        shared("up", "--name", "one", "--json").stdout,
        ps.stdout,
    ]
    for secret in secrets:
        assert not any(secret in text for text in shown)
    for page in pages(shared):
        body = fetch(f"{page}/", bearer=token(secrets[1]))[1].decode()
        assert not any(secret in body for secret in secrets)


def test_the_callers_spark_settings_do_not_reach_the_daemons(shared: CommandLine):
    for process in shared.processes("one"):
        environment = process.environ()
        assert environment["SPARK_LOCAL_IP"] == "127.0.0.1"
        # All comes by --properties-file, and a folder with files would keep Java from its archive.
        assert environment["SPARK_CONF_DIR"] == str(shared.directory("one") / "no-conf")
        assert not Path(environment["SPARK_CONF_DIR"]).exists()
        assert not {"SPARKBUNDLE_STATE", "PYTHONPATH", "PYSPARK_SUBMIT_ARGS"} & set(environment)


def test_a_stranger_on_the_port_of_spark_is_not_served(shared: CommandLine):
    """Bytes that are no Spark message close the connection and do no harm."""
    port = shared.json("status", "--name", "one")["master_port"]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.recv(100) == b""
    assert shared.json("status", "--name", "one")["healthy"]
