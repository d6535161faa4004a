"""`sparkbundle open`: the real pages of a running cluster, seen through the proxy."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from sparkbundle import opening
from sparkbundle.door import Door
from sparkbundle.errors import SparkbundleError
from sparkbundle.hosts import Hosts
from sparkbundle.opening import OpenOptions, opened
from sparkbundle.page_token import token
from sparkbundle.pages import PREFIX, Pages, split
from sparkbundle.proxy import Proxy
from sparkbundle.tunnel import Tunnel
from sparkbundle.wire import dial_here
from tests.deploy.conftest import CommandLine, told_first
from tests.deploy.test_ssh import lab_of

KEY = "spark.org.apache.spark.ui.JWSFilter.param.secretKey"


class Answer:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.body = answer.read()


class Browser:
    """What a browser does with cookies and redirects, and no more."""

    def __init__(self, proxy: Proxy) -> None:
        self.port = proxy.server_port
        self.netloc = proxy.netloc
        self.cookie = ""

    def get(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        given = {"Host": self.netloc} | {k.replace("_", "-"): v for k, v in headers.items()}
        if self.cookie:
            given.setdefault("Cookie", self.cookie)
        connection.request(method, path, headers=given)
        with connection.getresponse() as response:
            answer = Answer(response)
        connection.close()
        return answer

    def enter(self, url: str) -> Answer:
        answer = self.get(url.removeprefix(f"http://{self.netloc}"))
        self.cookie = (answer.headers["Set-Cookie"] or "").partition(";")[0]
        return answer


@pytest.fixture(scope="module")
def proxy(shared: CommandLine) -> Iterator[Proxy]:
    patch = pytest.MonkeyPatch()
    patch.setenv("SPARKBUNDLE_STATE", str(shared.state))
    with opened(OpenOptions(page="spark", inventory=None, name="one")) as made:
        yield made
    patch.undo()


@pytest.fixture(scope="module")
def browser(proxy: Proxy) -> Browser:
    made = Browser(proxy)
    answer = made.enter(proxy.url)
    assert answer.status == 200
    assert b'content="0;url=/"' in answer.body
    assert "HttpOnly; SameSite=Strict" in answer.headers["Set-Cookie"]
    return made


def master_page(shared: CommandLine) -> str:
    return shared.json("status", "--name", "one")["ui"].removeprefix("http://")


def links(body: bytes) -> list[str]:
    return [link.decode() for link in re.findall(rb"""(?:href|src)=["']([^"'#]+)""", body)]


def test_the_masters_page_with_everything_it_needs(browser: Browser, shared: CommandLine):
    first = browser.get("/")
    assert (first.status, first.headers["Location"]) == (302, f"{PREFIX}{master_page(shared)}/")
    page = browser.get(first.headers["Location"])
    assert page.status == 200
    assert b"Spark Master at" in page.body
    needed = [link for link in links(page.body) if "/static/" in link]
    assert len(needed) > 3
    for link in needed:
        assert link.startswith(first.headers["Location"]), link
        answer = browser.get(link)
        assert answer.status == 200, link
        assert len(answer.body) == int(answer.headers["Content-Length"])


def test_links_to_workers_lead_through_the_proxy(browser: Browser, shared: CommandLine):
    page = browser.get(f"{PREFIX}{master_page(shared)}/")
    assert b'href="http://127.0.0.1' not in page.body
    workers = {link for link in links(page.body) if re.fullmatch(r"/at/127\.0\.0\.1:\d+", link)}
    assert len(workers) == 2
    for worker in workers:
        bare = browser.get(worker)
        assert (bare.status, bare.headers["Location"]) == (302, f"{worker}/")
        shown = browser.get(f"{worker}/")
        assert shown.status == 200
        assert b"Spark Worker at" in shown.body
        back = [link for link in links(shown.body) if link.startswith(PREFIX)]
        # Spark names its own host by a name there: localhost.
        assert b"http://" not in re.sub(rb"spark://|xmlns=\S+", b"", shown.body)
        assert f"{PREFIX}{master_page(shared)}" in {link.rstrip("/") for link in back}
        for link in back:
            if "/static/" in link:
                assert browser.get(link).status == 200, link


def test_a_bookmark_of_a_worker_works_at_once(shared: CommandLine, proxy: Proxy):
    """Before the master's page was looked at: the proxy asks it by itself."""
    worker = worker_pages(shared)[0]
    pages = Pages(
        dial=dial_here,
        ui_key=shared.properties("one")[KEY],
        master=master_page(shared),
        addresses=["127.0.0.1"],
    )
    assert pages.admits(worker)
    assert not pages.admits("127.0.0.1:22")


def worker_pages(shared: CommandLine) -> list[str]:
    key = shared.properties("one")[KEY]
    host, port = split(master_page(shared))
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("GET", "/json/", headers={"Authorization": f"Bearer {token(key)}"})
    found = json.load(connection.getresponse())["workers"]
    return [worker["webuiaddress"].removeprefix("http://") for worker in found]


def test_without_the_key_nobody_gets_in(browser: Browser, proxy: Proxy, shared: CommandLine):
    stranger = Browser(proxy)
    paths = ["/", f"{PREFIX}{master_page(shared)}/", "/?key=", "/?key=wrong", "/static/webui.css"]
    for path in paths:
        for method in ("GET", "HEAD", "POST", "OPTIONS", "FOO"):
            assert stranger.get(path, method=method).status == 403
    for cookie in ("sparkbundle=x", browser.cookie + "x", browser.cookie[:-1], "=", ";;\x01"):
        assert stranger.get("/", Cookie=cookie).status == 403
    # The key opens once: somebody who reads it from the browser's history comes too late.
    assert stranger.enter(proxy.url).status == 403
    assert stranger.cookie == ""
    # The browser that is in may use the address again.
    assert browser.get(f"/?key={proxy.door.key}").status == 200


def test_another_host_name_is_refused(browser: Browser, shared: CommandLine):
    for host in ("evil.example", f"localhost:{browser.port}", "127.0.0.1", "", "127.0.0.1:1"):
        assert browser.get("/", Host=host).status == 403
    # A request as to a forward proxy.
    assert browser.get(f"http://{master_page(shared)}/").status == 403


def test_nothing_but_reading(browser: Browser, shared: CommandLine):
    at = f"{PREFIX}{master_page(shared)}"
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "FOO"):
        answer = browser.get(f"{at}/app/kill/?id=x&terminate=true", method=method)
        assert answer.status == 405, method
        assert answer.headers["Allow"] == "GET, HEAD"
    assert shared.json("status", "--name", "one")["healthy"]
    head = browser.get(f"{at}/", method="HEAD")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize(
    "netloc",
    [
        "example.com:80",
        "10.0.0.1:8080",
        "localhost:{port}",
        "127.0.0.1:{proxy}",
        "127.0.0.1:{rpc}",
        "127.0.0.1",
        "127.0.0.1:{port}@example.com:80",
        "x@127.0.0.1:{port}",
        "127.0.0.1:0{port}",
        "127.0.0.1:{port}%2f",
        "[::1]:{port}",
        ":{port}",
        "",
    ],
)
def test_no_other_address_is_asked(
    browser: Browser, proxy: Proxy, shared: CommandLine, netloc: str
):
    record = shared.json("status", "--name", "one")
    values = {"port": record["ui_port"], "rpc": record["master_port"], "proxy": proxy.server_port}
    answer = browser.get(f"{PREFIX}{netloc.format(**values)}/")
    assert answer.status == 403


class Recorder:
    """A web page that keeps what it was sent."""

    def __init__(self, body: bytes = b"", head: str = "Content-Type: text/html") -> None:
        self.requests: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.netloc = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.answer = f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client:
                text = b""
                while b"\r\n\r\n" not in text:
                    text += client.recv(65536)
                self.requests.append(text.decode())
                client.sendall(self.answer)

    @contextmanager
    def proxy(self, **more: object) -> Iterator[Browser]:
        pages = Pages(
            dial=dial_here,
            ui_key="c2VjcmV0" * 6,
            master=self.netloc,
            addresses=["127.0.0.1"],
            **more,  # type: ignore[arg-type]
        )
        made = Proxy(pages, start=self.netloc)
        made.run()
        browser = Browser(made)
        browser.enter(made.url)
        try:
            yield browser
        finally:
            made.close()
            self.listener.close()


def test_neither_cookie_nor_key_nor_origin_goes_on_and_no_cookie_comes_back():
    page = Recorder(head="Content-Type: text/plain\r\nSet-Cookie: a=b\r\nX-Kept: yes")
    with page.proxy() as browser:
        answer = browser.get(
            f"{PREFIX}{page.netloc}/x?a=1&key=2",
            Referer="http://127.0.0.1/?key=k",
            Authorization="Basic x",
            X_Other="y",
            Accept="text/plain",
        )
    (request,) = page.requests
    assert request.startswith("GET /x?a=1&key=2 HTTP/1.1\r\n")
    names = {line.partition(":")[0].lower() for line in request.split("\r\n")[1:] if line}
    assert names == {
        "host",
        "connection",
        "accept",
        "accept-encoding",
        "authorization",
        "x-forwarded-context",
    }
    assert "Bearer ey" in request
    assert browser.cookie.partition("=")[2] not in request
    assert answer.headers["Set-Cookie"] is None
    assert answer.headers["X-Kept"] == "yes"


def test_only_links_of_the_masters_page_to_hosts_of_the_cluster_are_turned():
    body = (
        b'<a href="http://127.0.0.1:8081">w</a> <a href="http://127.0.0.1:8082/x?y">w</a>'
        b'<a href="http://10.9.9.9:80/">no</a> http://127.0.0.1:8083/ text'
        b'<a href="http://127.0.0.1:8081.evil.example/">no</a>'
        b'<a href="http://127.0.0.1:8081@evil.example/">no</a>'
    )
    page = Recorder(body)
    with page.proxy() as browser:
        shown = browser.get(f"{PREFIX}{page.netloc}/").body
    assert b'href="/at/127.0.0.1:8081"' in shown
    assert b'href="/at/127.0.0.1:8082/x?y"' in shown
    for untouched in (b"http://10.9.9.9:80/", b"http://127.0.0.1:8083/ text"):
        assert untouched in shown
    assert shown.count(b"evil.example") == shown.count(b"http://127.0.0.1:8081") == 2


def test_names_stand_for_addresses_where_the_port_is_one_of_ours():
    asked: list[str] = []

    def resolve(name: str) -> str | None:
        asked.append(name)
        return {"w1": "127.0.0.1", "evil": "10.9.9.9", "app": "127.0.0.1"}.get(name)

    page = Recorder(b'<a href="http://127.0.0.1:8081"> <a href="http://app:4040">')
    pages = Pages(
        dial=dial_here,
        ui_key="c2VjcmV0" * 6,
        master=page.netloc,
        addresses=["127.0.0.1"],
        resolve=resolve,
    )
    assert pages.linked() == ["127.0.0.1:8081", "127.0.0.1:4040"]
    for link, turned in {
        "http://w1:8081/logPage/": "/at/127.0.0.1:8081/logPage/",
        "http://app:4040": "/at/127.0.0.1:4040",
        "http://w1:9999/": "http://w1:9999/",
        "http://evil:8081/": "http://evil:8081/",
        "http://nobody:8081/": "http://nobody:8081/",
    }.items():
        assert pages.turn(link.encode()) == turned.encode()
        assert pages.turn(link.encode()) == turned.encode()
    assert pages.turn(b"http://stranger:9998/") == b"http://stranger:9998/"
    assert asked == ["app", "w1", "evil", "nobody"]
    page.listener.close()


def test_redirects_are_turned():
    page = Recorder(b'<a href="http://127.0.0.1:8081">')
    pages = Pages(
        dial=dial_here,
        ui_key="c2VjcmV0" * 6,
        master=page.netloc,
        addresses=["127.0.0.1"],
        fixed=["127.0.0.1:9"],
    )

    def turned(location: str) -> str:
        return pages.turn_redirect(location, at="127.0.0.1:9")

    assert turned("http://127.0.0.1:9/jobs/?a=b") == "/at/127.0.0.1:9/jobs/?a=b"
    assert turned("http://127.0.0.1:9/at/127.0.0.1:9/jobs/") == "/at/127.0.0.1:9/jobs/"
    assert turned("http://127.0.0.1:8081") == "/at/127.0.0.1:8081/"
    assert turned("/jobs/") == "/at/127.0.0.1:9/jobs/"
    assert turned("/at/127.0.0.1:9/jobs/") == "/at/127.0.0.1:9/jobs/"
    assert turned("jobs/") == "jobs/"
    assert turned("https://spark.apache.org/") == "https://spark.apache.org/"
    page.listener.close()


def test_a_link_from_the_root_is_meant_at_its_page():
    page = Recorder()
    with page.proxy() as browser:
        at = f"{PREFIX}{page.netloc}"
        answer = browser.get("/api/v1/x?y=z", Referer=f"http://{browser.netloc}{at}/environment/")
        assert (answer.status, answer.headers["Location"]) == (302, f"{at}/api/v1/x?y=z")
        assert browser.get("/api/v1/x").status == 404
        assert browser.get("/api/v1/x", Referer="http://evil.example/at/x/").status == 404


def test_the_proxy_listens_on_loopback_only(proxy: Proxy):
    held = [
        connection.laddr.ip
        for connection in psutil.Process().net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == proxy.server_port
    ]
    assert held == ["127.0.0.1"]


def test_a_browser_that_goes_away_does_no_harm(browser: Browser, capfd: pytest.CaptureFixture[str]):
    for text in (b"", b"GET", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", browser.port)) as client:
            client.sendall(text)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", browser.port)) as client:
            head = f"Host: {browser.netloc}\r\nCookie: {browser.cookie}"
            client.sendall(f"GET / HTTP/1.1\r\n{head}\r\n\r\n".encode())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert browser.get("/").status == 302
    assert "Traceback" not in capfd.readouterr().err


def test_the_key_is_for_our_own_user(monkeypatch: pytest.MonkeyPatch):
    door = Door(1)
    monkeypatch.setattr("sparkbundle.door._owner", lambda port, to: os.getuid() + 4711)
    assert not door.redeem(door.key, caller_port=2)
    monkeypatch.setattr("sparkbundle.door._owner", lambda port, to: os.getuid())
    assert door.redeem(door.key, caller_port=2)
    assert not door.redeem(door.key, caller_port=2)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells")
def test_who_is_at_the_other_end():
    from sparkbundle.door import _owner

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        port, to = client.getsockname()[1], server.getsockname()[1]
        assert _owner(port, to) == os.getuid()
        assert _owner(to, 1) is None


def test_a_page_that_does_not_answer(shared: CommandLine, cli: CommandLine):
    shown = cli("open", "spark", "--no-browser", code=3).stderr
    assert "'default' is not up" in shown
    assert "sparkbundle up" in shown
    shown = shared("open", "history", "--name", "one", code=3).stderr
    assert "no history server" in shown
    shown = shared("open", "app", "--name", "one", code=3).stderr
    assert "no running application" in shown
    taken = str(shared.json("status", "--name", "one")["ui_port"])
    shown = shared("open", "spark", "--name", "one", "--port", taken, code=3).stderr
    assert f"port {taken} is taken by process" in shown
    assert "-i names" in shared("open", "spark", "-i", "x.yml", "--name", "one", code=2).stderr


def test_the_command_prints_the_address_opens_the_browser_and_ends(shared: CommandLine):
    opened_at = shared.home / "opened"
    script = shared.home / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" >{opened_at}.new; mv {opened_at}.new {opened_at}\n')
    script.chmod(0o755)
    process = shared.popen("open", "spark", "--name", "one", "--json", BROWSER=str(script))
    told = told_first(process)
    assert told["url"].startswith(f"http://127.0.0.1:{told['port']}/?key=")
    line = process.stderr.readline()
    assert "lets one browser in" in line
    assert opened_at.read_text().strip() == told["url"]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert "no longer answers" in err
    none = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "BROWSER": ""}
    process = shared.popen("open", "spark", "--name", "one", **none)
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    assert "no browser can be opened here" in process.stderr.readline()
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.fixture
def remote(shared: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A cluster of hosts: an SSH server from which the pages of the running cluster are reached."""
    if os.getuid() != 0 and subprocess.run(["sudo", "-n", "true"], check=False).returncode:
        pytest.skip("needs root or sudo to read the secrets as on a host")
    monkeypatch.setenv("SPARKBUNDLE_STATE", str(tmp_path / "state"))
    ui = master_page(shared)
    secrets, cluster = tmp_path / "secrets.json", tmp_path / "cluster.json"
    shutil.copy(shared.directory("one") / "conf/secrets.json", secrets)
    cluster.write_text(
        json.dumps({"ui": f"http://{ui}", "history": "http://127.0.0.1:9", "address": "127.0.0.1"})
    )
    monkeypatch.setattr(opening, "SECRETS", str(secrets))
    monkeypatch.setattr(opening, "_CLUSTER", str(cluster))
    with lab_of(tmp_path, "boss", "w1") as lab:
        yield lab


def test_through_ssh_and_again_after_a_lost_connection(remote, shared: CommandLine):
    server = remote.servers["boss"]
    with opened(OpenOptions(page="spark", inventory=remote.path, name="")) as proxy:
        browser = Browser(proxy)
        assert browser.enter(proxy.url).status == 200
        at = f"{PREFIX}{master_page(shared)}/"
        page = browser.get(at)
        assert page.status == 200
        worker = f"{PREFIX}{worker_pages(shared)[0]}/"
        assert worker.rstrip("/").encode() in page.body
        assert b"Spark Worker at" in browser.get(worker).body
        style = next(link for link in links(page.body) if "bootstrap.min.css" in link)
        assert len(browser.get(style).body) > 100_000
        assert ("127.0.0.1", split(master_page(shared))[1]) in server.forwarded
        server.drop()
        threads_answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: threads_answers.append(browser.get(at).status))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert threads_answers == [200] * 8
        assert len(server.transports) == 1
        server.forwards = False
        answer = browser.get(at)
        assert answer.status == 502
        assert b"AllowTcpForwarding" in answer.body


def test_a_history_server_that_does_not_answer_is_said(remote):
    with (
        pytest.raises(SparkbundleError, match="does not answer") as error,
        opened(OpenOptions(page="history", inventory=remote.path, name="")),
    ):
        pass
    assert error.value.where == "127.0.0.1:9"


def test_secrets_that_are_not_there_or_not_to_be_read(remote, monkeypatch: pytest.MonkeyPatch):
    asked = OpenOptions(page="spark", inventory=remote.path, name="")
    monkeypatch.setattr(opening, "SECRETS", "/absent/secrets.json")
    with pytest.raises(SparkbundleError, match="no cluster is up here"), opened(asked):
        pass
    monkeypatch.setattr(opening, "SECRETS", "/dev/null")
    with pytest.raises(SparkbundleError, match="damaged"), opened(asked):
        pass


def test_a_host_that_is_gone_is_an_error_not_a_hang(remote):
    inventory = remote.inventory()
    with Hosts(inventory) as hosts:
        tunnel = Tunnel(hosts)
        with pytest.raises(SparkbundleError, match="does not answer"):
            tunnel.dial("127.0.0.1", 9)
        remote.servers["boss"].close()
        with pytest.raises(SparkbundleError) as error:
            tunnel.dial("127.0.0.1", 9)
        assert error.value.code == 4
