"""The tile of the notebook server with Spark's pages: what it needs, and which pages it finds."""

import http.client
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jwt
import pytest
import yaml

from sparkbundle import resources, tile
from sparkbundle.tile import Where
from tests.deploy.conftest import wait_until
from tests.deploy.test_open import Recorder

MODULES = "import json, sys; sys.path.insert(0, sys.argv.pop(1)); "


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({"rpc": "r" * 64, "ui_key": "c2VjcmV0" * 6}))
    return path


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A folder with the modules that the role copies to a host, and PyJWT."""
    role = resources.roles() / "notebook/vars/main.yml"
    package = tmp_path / "alone/sparkbundle"
    package.mkdir(parents=True)
    for module in yaml.safe_load(role.read_text())["notebook_modules"]:
        shutil.copy(Path(tile.__file__).with_name(module), package)
    (package.parent / "jwt").symlink_to(Path(jwt.__file__).parent)
    return package.parent


def test_the_modules_that_a_host_gets_need_nothing_else_but_pyjwt(alone: Path):
    code = (
        "import sparkbundle.tile; from sparkbundle.page_token import token; token('c2VjcmV0' * 6); "
        "print(json.dumps(sorted({n.split('.')[0] for n in sys.modules}"
        " - set(sys.stdlib_module_names))))"
    )
    words = [sys.executable, "-ISB", "-c", MODULES + code, alone]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) - {"__main__"} == {"jwt", "sparkbundle"}


def test_they_show_a_page_at_a_socket_for_this_user_alone(
    alone: Path, tmp_path: Path, secrets: Path
):
    page = Recorder(b"Spark Master at")
    where, at = tmp_path / "tile.json", tmp_path / "socket"
    where.write_text(
        json.dumps(
            {
                "master": page.netloc,
                "fixed": [],
                "addresses": ["127.0.0.1"],
                "own": "127.0.0.1",
                "secrets": str(secrets),
            }
        )
    )

    def ask(path: str) -> tuple[int, str | None, bytes]:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        connection.sock.connect(str(at))
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Location"], answer.read()

    code = "import runpy; runpy.run_module('sparkbundle.tile', run_name='__main__')"
    words = [sys.executable, "-ISB", "-c", MODULES + code, alone, where, at, "/user/spark"]
    with subprocess.Popen(words) as process:
        try:
            wait_until(at.exists, seconds=30)
            assert at.stat().st_mode & 0o077 == 0
            # The notebook server puts the tile's own path before it.
            assert ask("/")[:2] == (302, f"/at/{page.netloc}/")
            assert ask(f"/at/{page.netloc}/") == (200, None, b"Spark Master at")
            assert ask("/at/127.0.0.1:22/")[0] == 403
        finally:
            process.terminate()
            page.listener.close()
    assert "Authorization: Bearer ey" in page.requests[0]
    assert f"X-Forwarded-Context: /user/spark/at/{page.netloc}" in page.requests[0]


def linked(secrets: Path, *, to: str) -> list[str]:
    """The pages that the tile finds where the master's page has a link to `to`."""
    page = Recorder(f'<a href="http://{to}">worker</a>'.encode())
    where = Where(
        master=page.netloc,
        addresses=["10.0.0.4", "10.0.0.5"],
        own="10.0.0.4",
        secrets=str(secrets),
    )
    try:
        return where.pages(base="/spark").linked()
    finally:
        page.listener.close()


def test_a_link_to_the_hosts_own_name_is_one_to_its_address_in_the_cluster(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
):
    assert linked(secrets, to="localhost:8081") == ["10.0.0.4:8081"]
    # As on Debian, whose /etc/hosts has 127.0.1.1 for the host's own name.
    monkeypatch.setattr(socket, "gethostbyname", {"node-1": "127.0.1.1"}.__getitem__)
    assert linked(secrets, to="node-1:8081") == ["10.0.0.4:8081"]


def test_a_link_to_another_hosts_name_is_one_to_its_address(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
):
    names = {"node-2": "10.0.0.5", "elsewhere": "10.9.9.9"}
    monkeypatch.setattr(socket, "gethostbyname", names.__getitem__)
    assert linked(secrets, to="node-2:8081") == ["10.0.0.5:8081"]
    assert linked(secrets, to="elsewhere:8081") == []


def test_a_name_that_nobody_knows_or_can_know_is_no_page_of_ours(secrets: Path):
    assert linked(secrets, to=f"{'a' * 64}.b:8081") == []
    assert linked(secrets, to="a..b:8081") == []
