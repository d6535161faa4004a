"""`sparkbundle run`: all hosts at once, against real SSH servers."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkbundle import reach, running
from sparkbundle.errors import AUTHENTICATION, UNREACHABLE, SparkbundleError
from sparkbundle.hosts import Answer, Hosts
from sparkbundle.running import line_of, run_code, run_everywhere, summary
from tests.deploy.conftest import CommandLine, wait_until
from tests.deploy.test_ssh import Lab, alive, lab_of


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("SPARKBUNDLE_STATE", str(tmp_path / "state"))
    with lab_of(tmp_path, "boss", "w1", "w2") as made:
        yield made


def answer(code: int) -> Answer:
    return Answer(host="h", code=code, out="", err="")


def failure(code: int) -> SparkbundleError:
    return SparkbundleError("x", code=code)


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([answer(0), answer(0)], 0),
        ([answer(0), answer(3)], 7),
        ([answer(0), failure(UNREACHABLE)], 7),
        ([answer(3), answer(255)], 1),
        ([answer(3), failure(UNREACHABLE)], 1),
        ([failure(UNREACHABLE), failure(UNREACHABLE)], 4),
        ([failure(UNREACHABLE), failure(AUTHENTICATION)], 4),
        ([failure(AUTHENTICATION)], 6),
    ],
)
def test_exit_codes(answers, code: int):
    assert run_code(answers) == code


def test_words_arrive_as_they_are_and_one_word_is_a_line():
    assert line_of(["ps aux | wc -l"]) == "ps aux | wc -l"
    assert line_of(["grep", "a b", "*.log"]) == "grep 'a b' '*.log'"


def test_hosts_are_chosen_by_name_group_and_label(lab: Lab):
    inventory = lab.inventory()

    def names(*on: str) -> list[str]:
        return [host.name for host in reach.choose(inventory, on)]

    assert names() == names("all") == ["boss", "w1", "w2"]
    assert names("workers") == ["w1", "w2"]
    assert names("fast,boss") == names("fast", "boss") == ["boss", "w1"]
    with pytest.raises(SparkbundleError, match="'worker'") as error:
        names("worker")
    assert error.value.code == 2
    assert "did you mean 'workers'" in error.value.todo
    assert reach.one(inventory, None).name == "boss"
    with pytest.raises(SparkbundleError, match="no host 'workers'"):
        reach.one(inventory, "workers")


def test_lines_come_with_their_host_while_the_command_runs(lab: Lab):
    shown: list[tuple[float, str, str, bool]] = []

    def show(host: str, line: str, failing: bool) -> None:
        shown.append((time.monotonic(), host, line, failing))

    command = "pwd; echo oops >&2; sleep 0.5; printf 'no end'; exit 3"
    inventory = lab.inventory()
    with Hosts(inventory) as hosts:
        answers = run_everywhere(hosts, command, chosen=inventory.hosts, show=show)
    assert {one.code for one in answers.values()} == {3}
    for name, server in lab.servers.items():
        mine = [(line, failing) for _, host, line, failing in shown if host == name]
        assert sorted(mine) == sorted(
            [(str(server.home), False), ("oops", True), ("no end", False)]
        )
        times = {line: when for when, host, line, _ in shown if host == name}
        assert times["no end"] - times[str(server.home)] > 0.4
    assert "failed on 3 of 3 hosts: boss (exit code 3)" in summary(answers)


def test_what_is_kept_and_a_lost_host(lab: Lab):
    lab.servers["w2"].close()
    inventory = lab.inventory()
    with Hosts(inventory) as hosts:
        answers = run_everywhere(hosts, "seq 20000; echo e >&2", chosen=inventory.hosts)
    assert isinstance(answers["w2"], SparkbundleError)
    assert run_code(answers.values()) == 7
    for name in ("boss", "w1"):
        found = answers[name]
        assert isinstance(found, Answer)
        assert found.out.splitlines() == [str(n) for n in range(1, 20001)]
        assert (found.code, found.err) == (0, "e\n")
    assert "failed on 1 of 3 hosts: w2 (cannot be reached" in summary(answers)


def test_a_command_has_no_input_and_may_end_by_a_signal(lab: Lab):
    inventory = lab.inventory()
    with Hosts(inventory) as hosts:
        chosen = [inventory.master]
        assert run_everywhere(hosts, "cat; echo end", chosen=chosen)["boss"].out == "end\n"
        assert run_everywhere(hosts, "kill -9 $$", chosen=chosen)["boss"].code == 137
        assert run_everywhere(hosts, "no-such-program", chosen=chosen)["boss"].code == 127


def test_ctrl_c_ends_the_commands_on_the_hosts(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    """Also what ignores the first signal, and what the command has started."""
    pids: dict[str, int] = {}

    def show(host: str, line: str, failing: bool) -> None:
        pids[f"{host}-{line.split(maxsplit=1)[0]}"] = int(line.split()[1])

    command = "trap '' TERM; echo shell $$; sleep 600 & echo sleep $!; while :; do sleep 1; done"
    inventory = lab.inventory()

    def interrupt() -> None:
        wait_until(lambda: len(pids) == 6)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with Hosts(inventory) as hosts, pytest.raises(SparkbundleError, match="interrupted") as error:
        run_everywhere(hosts, command, chosen=inventory.hosts, show=show)
    assert error.value.code == 130
    wait_until(lambda: not any(map(alive, pids.values())), seconds=10)


def test_a_lost_connection_ends_the_command(lab: Lab):
    pids: list[int] = []
    inventory = lab.inventory()

    def drop() -> None:
        wait_until(lambda: pids)
        lab.servers["boss"].drop()

    threading.Thread(target=drop, daemon=True).start()
    with Hosts(inventory) as hosts:
        answers = run_everywhere(
            hosts,
            "echo $$; exec sleep 600",
            chosen=[inventory.master],
            show=lambda _h, line, _f: pids.append(int(line)),
        )
    lost = answers["boss"]
    assert isinstance(lost, SparkbundleError)
    assert lost.code == UNREACHABLE
    assert "lost" in lost.what
    wait_until(lambda: not alive(pids[0]), seconds=10)


def test_nothing_of_the_keeper_is_left_on_the_host(lab: Lab):
    inventory = lab.inventory()
    with Hosts(inventory) as hosts:
        answers = run_everywhere(hosts, "echo $PPID", chosen=[inventory.master])
    found = answers["boss"]
    assert isinstance(found, Answer)
    assert not alive(int(found.out))
    assert running.summary(answers) == "exit code 0 on 1 host"


def test_the_command_line(lab: Lab, cli: CommandLine):
    given = ["-i", str(lab.path)]
    done = cli("run", *given, "--on", "workers", "echo", "a  b")
    assert sorted(done.stdout.splitlines()) == ["w1 | a  b", "w2 | a  b"]
    assert "met for the first time" in done.stderr
    assert "exit code 0 on 2 hosts" in done.stderr
    # Our own options come first: what follows the command belongs to it.
    assert cli("run", *given, "--on", "boss", "echo", "--json").stdout == "boss | --json\n"
    done = cli("run", *given, "--json", "test -e nothing || exit 3", code=1)
    assert json.loads(done.stdout)["hosts"]["w1"] == {"code": 3, "out": "", "err": ""}
    lab.servers["w2"].close()
    done = cli("run", *given, "--json", "true", code=7)
    told = json.loads(done.stdout)["hosts"]
    assert told["w1"]["code"] == 0
    assert told["w2"]["code"] is None
    assert "cannot be reached" in told["w2"]["error"]
    assert "w2" in done.stderr
    cli("run", *given, "--on", "w2", "true", code=4)
    assert "did you mean 'workers'" in cli("run", *given, "--on", "worker", "true", code=2).stderr
    assert "Missing option '-i' / '--inventory'" in cli("run", "true", code=2).stderr
    assert "Missing option '-i' / '--inventory'" in cli("ssh", code=2).stderr
    for command in ("run", "ssh", "push", "pull", "open"):
        assert "Examples:" in cli(command, "--help").stdout


def test_as_root(lab: Lab):
    if os.getuid() != 0 and subprocess.run(["sudo", "-n", "true"], check=False).returncode:
        pytest.skip("needs root or sudo")
    inventory = lab.inventory()
    with Hosts(inventory) as hosts:
        answers = run_everywhere(hosts, "id -u; exit 5", chosen=[inventory.master], sudo=True)
    assert answers["boss"] == Answer(host="boss", code=5, out="0\n", err="")
