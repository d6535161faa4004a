"""The wheel of sparkbundle: all that `up -i` needs is in it, and it works without a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from sparkbundle import resources

ROOT = Path(__file__).parents[2]


class Package:
    """The wheel's content in a folder, and Python with it instead of the checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inside = folder / "sparkbundle/bundled"

    def python(self, code: str, *words: str, code_expected: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *words],
            env=os.environ | {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=self.folder.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code_expected, done.stdout + done.stderr
        return done.stderr if code_expected else done.stdout

    def files(self, below: str) -> dict[str, bytes]:
        return contents(self.folder / below)


def contents(folder: Path) -> dict[str, bytes]:
    # Roles share a folder of modules by links; a wheel has none.
    walked = os.walk(folder, followlinks=True)
    files = [Path(parent, name) for parent, _, names in walked for name in names]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if "__pycache__" not in path.parts
    }


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Built from a copy of the checkout, with what an earlier build would have left in it."""
    root = tmp_path_factory.mktemp("package")
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for folder in ("deploy", "roles", "job"):
        shutil.copytree(ROOT / folder, root / "checkout" / folder, ignore=skipped)
    old = root / "checkout/deploy/build/lib/sparkbundle"
    old.mkdir(parents=True)
    (old / "removed_since.py").touch()
    before = {name: contents(root / "checkout" / name) for name in ("roles", "job")}
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [sys.executable, "-m", "pip", *words, "--wheel-dir", root, root / "checkout/deploy"]
    subprocess.run(command, check=True)
    after = {name: contents(root / "checkout" / name) for name in ("roles", "job")}
    assert after == before, "nothing is written into the sources"
    shutil.rmtree(root / "checkout")
    (wheel,) = root.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(root / "unpacked")
    return Package(root / "unpacked")


def test_the_wheel_holds_what_the_checkout_holds(package: Package):
    assert package.files("sparkbundle/bundled/roles") == contents(ROOT / "roles")
    assert package.files("sparkbundle/bundled/playbooks") == contents(ROOT / "deploy/playbooks")
    own = package.files("sparkbundle")
    modules = {name: data for name, data in own.items() if not name.startswith("bundled/")}
    assert modules == contents(ROOT / "deploy/sparkbundle")
    (job,) = package.inside.glob("sentiment-*.whl")
    with zipfile.ZipFile(job) as wheel:
        names = {n for n in wheel.namelist() if n.startswith("sentiment/")}
        assert names == {f"sentiment/{name}" for name in contents(ROOT / "job/sentiment")}


def test_the_installed_package_finds_all_of_it_inside(package: Package):
    found = package.python("""
from sparkbundle import host_plan, resources as r, smoke
locks = r.locks()
for path in (r.roles(), r.playbooks(), locks.job, locks.cpu, locks.cuda, locks.builder,
             r.sentiment_wheel_or_source(), smoke._SCRIPT, host_plan._JOB_AGENT):
    print(path)
""")
    paths = [Path(line) for line in found.splitlines()]
    assert len(paths) == 9
    assert all(path.exists() and path.is_relative_to(package.folder) for path in paths)
    # Where the roles `jobs` and `notebook` look for what they copy to hosts.
    assert (package.inside / "playbooks/../../job_agent").resolve() == paths[-1].resolve()
    assert (package.inside / "playbooks/../../tile.py").is_file()
    assert len(list((package.inside / "playbooks/../notebooks").glob("*.ipynb"))) == 4


def test_the_playbooks_find_their_roles(package: Package):
    for playbook in package.inside.glob("playbooks/*.yml"):
        for play in yaml.safe_load(playbook.read_text()):
            roles = play.get("roles", [])
            names = [role if isinstance(role, str) else role["role"] for role in roles]
            included = [one.get("ansible.builtin.include_role") for one in play.get("tasks", [])]
            names += [one["name"] for one in included if one]
            assert names, playbook
            for name in names:
                assert (package.inside / "roles" / name / "tasks/main.yml").is_file(), name


def test_its_commands_run_without_a_checkout(package: Package, tmp_path: Path):
    (entry_points,) = package.folder.glob("sparkbundle-*.dist-info/entry_points.txt")
    assert "sparkbundle = sparkbundle.__main__:main" in entry_points.read_text()
    start = "from sparkbundle.cli import main; main()"
    assert "One command to a secured Spark cluster" in package.python(start, "--help")
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("master: {hosts: {a: {ansible_port: 70000}}}\nworkers: {hosts: {b: }}\n")
    said = package.python(start, "check", "-i", str(inventory), code_expected=3)
    assert "hosts.yml:1: ansible_port: 70000 is not a port" in said and "Traceback" not in said


def test_a_checkout_has_them_too():
    assert resources.roles() == ROOT / "roles"
    assert resources.playbooks() == ROOT / "deploy/playbooks"
    assert resources.locks().builder == ROOT / "deploy/requirements-builder.lock"
    assert resources.sentiment_wheel_or_source() == ROOT / "job"
