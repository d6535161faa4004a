"""`sparkbundle open notebook -i`: the server of a cluster of hosts, through a real SSH server."""

import http.client
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from sparkbundle import notebook_hosts, ports
from sparkbundle.errors import PREFLIGHT, SparkbundleError
from sparkbundle.inventory import load
from sparkbundle.notebook_hosts import HostsNotebook
from tests.certificates import write_certificate
from tests.deploy.conftest import CommandLine
from tests.deploy.test_preflight import program
from tests.deploy.test_ssh import Lab, lab_of

TOKEN = "right"


class Answers(http.server.BaseHTTPRequestHandler):
    """In the place of Jupyter Server: who is asked for its status, with which token."""

    def do_GET(self) -> None:
        right = self.headers["Authorization"] == f"token {TOKEN}"
        self.send_response(200 if self.path == "/api/status" and right else 403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Hosts, on one of them a notebook server."""
    if os.getuid() != 0 and subprocess.run(["sudo", "-n", "true"], check=False).returncode:
        pytest.skip("needs root or sudo to read the token as on a host")
    monkeypatch.setenv("SPARKBUNDLE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(notebook_hosts, "TOKEN", str(tmp_path / "token"))
    (tmp_path / "token").write_text(TOKEN)
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server,
        lab_of(tmp_path, "boss", "w1") as made,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(notebook_hosts, "PORT", server.server_port)
        with made.path.open("a") as inventory:
            inventory.write("    notebook:\n      hosts:\n        w1:\n")
        yield made
        server.shutdown()


def publish(lab: Lab) -> None:
    write_certificate(lab.directory, "a.example.org")
    keys = "notebook_name: a.example.org", "notebook_certificate: notebook.crt"
    text = "".join(f"    {line}\n" for line in (*keys, "notebook_key: notebook.key"))
    lab.path.write_text(lab.path.read_text().replace("  vars:\n", f"  vars:\n{text}"))


def systemctl(lab: Lab, state: str, *, public: str = "inactive") -> None:
    """Hosts on which systemd says this of the server's unit, and of its public socket."""
    script = f"""case "$*" in
"is-active spark-notebook") echo {state};;
"is-active spark-notebook-public.socket") echo {public};;
esac"""
    program(lab.directory / "bin/systemctl", script)


def opened(path: Path, port: int | None = None) -> AbstractContextManager[HostsNotebook]:
    return notebook_hosts.opened(path, port=port)


def test_it_is_reached_by_a_tunnel_that_lasts_as_long_as_it_is_open(lab: Lab):
    port = ports.choose_free()
    with opened(lab.path, port) as server:
        assert server.url == f"http://127.0.0.1:{port}/lab?token={TOKEN}"
        assert (server.port, server.tunnel) == (port, True)
        assert TOKEN not in repr(server)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/api/status", headers={"Authorization": f"token {TOKEN}"})
        assert connection.getresponse().status == 200
        connection.close()
        assert set(lab.servers["w1"].forwarded) == {("127.0.0.1", notebook_hosts.PORT)}
    assert not ports.answers(port)
    assert lab.servers["boss"].transports == []


def test_a_server_that_refuses_its_token_is_told(lab: Lab):
    (lab.directory / "token").write_text("wrong")
    with (
        pytest.raises(SparkbundleError, match="answers 403") as caught,
        opened(lab.path),
    ):
        pass
    assert caught.value.where == "w1"
    assert f"sparkbundle up -i {lab.path}" in caught.value.todo


def test_a_cluster_that_is_not_up_is_told(lab: Lab):
    (lab.directory / "token").unlink()
    with pytest.raises(SparkbundleError, match="no cluster is up here") as no, opened(lab.path):
        pass
    assert no.value.code == PREFLIGHT


@pytest.mark.parametrize("published", [False, True])
def test_a_server_that_is_down_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch, published: bool):
    monkeypatch.setattr(notebook_hosts, "PORT", 1)
    systemctl(lab, "failed", public="active" if published else "inactive")
    if published:
        publish(lab)
    with pytest.raises(SparkbundleError, match="server is failed") as down, opened(lab.path):
        pass
    assert down.value.where == "w1"
    assert "journalctl" in down.value.todo


def test_a_published_one_is_told_at_its_name_and_needs_neither_tunnel_nor_port(lab: Lab):
    publish(lab)
    systemctl(lab, "active", public="active")
    with opened(lab.path) as server:
        assert server.url == f"https://a.example.org/lab?token={TOKEN}"
        assert (server.port, server.tunnel) == (443, False)
    assert lab.servers["w1"].forwarded == []
    with pytest.raises(SparkbundleError, match="needs no port here") as no, opened(lab.path, 2000):
        pass
    assert no.value.code == PREFLIGHT


def test_one_that_waits_for_its_kernels_is_reached_as_it_still_is(lab: Lab):
    systemctl(lab, "active", public="active")
    with pytest.raises(SparkbundleError, match="still published") as no, opened(lab.path):
        pass
    assert no.value.where == "w1"
    publish(lab)
    systemctl(lab, "active")
    with opened(lab.path) as server:
        assert server.tunnel


def test_on_hosts_the_folder_is_fixed(cli: CommandLine):
    shown = cli("open", "notebook", "-i", "hosts.yml", "--folder", "mine", code=2).stderr
    assert "leave --folder out" in shown


def test_a_cluster_without_a_notebook_server_is_told_what_to_add(cli: CommandLine):
    path = cli.home / "hosts.yml"
    path.write_text("master: {hosts: {m: }}\nworkers: {hosts: {w: }}\n")
    shown = cli("open", "notebook", "-i", "hosts.yml", code=3).stderr
    assert "error: hosts.yml: this cluster has no notebook server" in shown
    assert "such as: notebook: {hosts: {m: }}" in shown
    assert "then: sparkbundle up -i hosts.yml" in shown
    # It is YAML as it stands there.
    path.write_text(path.read_text() + "notebook: {hosts: {m: }}\n")
    assert load(path).notebook.name == "m"


def test_the_help_tells_of_hosts(cli: CommandLine):
    shown = cli("open", "--help").stdout
    assert "sparkbundle open notebook -i hosts.yml" in shown
    assert "that of hosts is shown until Ctrl-C, over SSH" in " ".join(shown.split())
