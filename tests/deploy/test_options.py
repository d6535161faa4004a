"""Options and settings, through the real command line; no cluster is started."""

import json

import pytest

from tests.deploy.conftest import CommandLine


def test_help_shows_examples(cli: CommandLine):
    for command in ("up", "status", "down", "config"):
        assert command in cli("--help").stdout
    for command in ("up", "status", "down"):
        assert "Examples:" in cli(command, "--help").stdout
    assert cli("--version").stdout.startswith("sparkbundle, version 0.")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["up", "--workers", "0"], "--workers"),
        (["up", "--workers", "two"], "--workers"),
        (["up", "--memory-per-worker", "lots"], "not a size"),
        (["up", "--ui-port", "99999"], "--ui-port"),
        (["upp"], "No such command"),
        (["up", "--nam", "x"], "--name"),
    ],
)
def test_usage_errors_are_exit_code_2(cli: CommandLine, words: list[str], part: str):
    assert part in cli(*words, code=2).stderr


def test_a_bad_name_is_refused(cli: CommandLine):
    assert "cannot be the name" in cli("up", "--name", "../x", code=3).stderr
    assert not cli.state.exists()


def test_status_and_down_of_what_is_not_up(cli: CommandLine):
    found = cli("status", code=1)
    assert "is not up" in found.stdout
    assert "sparkbundle up" in found.stderr
    assert cli.json("status", code=1)["up"] is False
    assert "nothing to do" in cli("down").stdout
    assert "sparkbundle up --name lab" in cli("down", "--name", "lab").stderr
    assert cli.json("down", "--all") == {"clusters": []}
    assert not cli.state.exists()


def test_where_each_setting_comes_from(cli: CommandLine):
    user = cli.home / ".config/sparkbundle/config.toml"
    user.parent.mkdir(parents=True)
    user.write_text('name = "mine"\n[up]\nworkers = 5\ncores_per_worker = 3\n')
    project = cli.home / "sparkbundle.toml"
    project.write_text("[up]\nworkers = 4\n")
    shown = cli.json("config", "show", SPARKBUNDLE_UP_TIMEOUT="77")["settings"]
    assert shown["up.workers"] == {"value": 4, "from": str(project)}
    assert shown["up.cores_per_worker"] == {"value": 3, "from": str(user)}
    assert shown["up.timeout"] == {"value": "77", "from": "environment, SPARKBUNDLE_UP_TIMEOUT"}
    assert shown["up.master_port"] == {"value": "a free one", "from": "default"}
    assert shown["status.name"] == {"value": "mine", "from": str(user)}
    assert "'mine' is not up" in cli("status", code=1).stdout
    assert "'yours' is not up" in cli("status", code=1, SPARKBUNDLE_CLUSTER="yours").stdout
    assert "'line' is not up" in cli("status", "--name", "line", code=1).stdout
    human = cli("config", "show").stdout
    assert str(project) in human


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("[up]\nworker = 3\n", ["unknown setting 'worker' in [up]", "did you mean 'workers'"]),
        ("[upp]\nworkers = 3\n", ["unknown setting '[upp]'", "did you mean '[up]'"]),
        ("nmae = 'x'\n", ["unknown setting 'nmae'", "did you mean 'name'"]),
        ("[up\n", ["cannot be read"]),
        ("[up]\nworkers = 'many'\n", ["--workers", "many"]),
    ],
)
def test_a_bad_file_is_named(cli: CommandLine, content: str, parts: list[str]):
    project = cli.home / "sparkbundle.toml"
    project.write_text(content)
    shown = cli("up", code=3).stderr
    for part in [*parts, str(project)]:
        assert part in shown


def test_a_bad_or_unknown_variable_is_named(cli: CommandLine):
    shown = cli("up", code=3, SPARKBUNDLE_UP_WORKERS="many").stderr
    assert "SPARKBUNDLE_UP_WORKERS" in shown
    assert "many" in shown
    shown = cli("status", code=1, SPARKBUNDLE_UP_WORKRES="3").stderr
    assert "SPARKBUNDLE_UP_WORKRES has no effect: did you mean SPARKBUNDLE_UP_WORKERS?" in shown
    of_jobs = {"SPARKBUNDLE_VECTORS": "/var/tmp/v", "SPARKBUNDLE_SHARED_FOLDERS": "/srv"}
    assert "no effect" not in cli("status", code=1, **of_jobs).stderr


def test_results_are_alone_on_stdout(cli: CommandLine):
    done = cli("down", "--json")
    assert json.loads(done.stdout)["clusters"][0]["processes"] == 0
    assert "\x1b" not in done.stdout + done.stderr
