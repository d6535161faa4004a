"""A host's packages: ours (bundles sent, installed offline) beside plain pip from the registry.

    python -m tests.bench.install --ssh "ssh -F ssh_config node1" [--runs 3] [--cuda]

Both start from nothing and end with the same locked packages, hashes checked, in a virtual
environment. Not counted: making the wheelhouse (once, on the controller) and, for pip, the OS
package python3-venv, which ours does not need. pip builds pyspark's wheel on the host.
"""

import io
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import click

from sparkbundle import resources
from sparkbundle.wheelhouse import Wheelhouse, prepare
from sparkbundle.wheelhouse_lock import Target, lines, read_lock
from tests.bench.measure import Spread, in_turn, spread

Shell = Callable[[str, bytes | Path], str]
"""Runs a command on a host as root, with bytes or a file on its standard input; what it prints."""

TOP = "/var/tmp/sparkbundle-bench"  # on a disk of the host, and removed
SCRIPT = resources.roles() / "runtime/files/install_release.sh"


def ssh_shell(words: list[str]) -> Shell:
    """A shell by `ssh` with these words, the host last."""

    def run(command: str, given: bytes | Path = b"") -> str:
        inside = f"sudo -n sh -euc {shlex.quote(command)}"
        command = [*words, inside]
        with (
            given.open("rb") if isinstance(given, Path) else io.BytesIO(given) as source,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        ):
            assert process.stdin is not None and process.stdout is not None
            shutil.copyfileobj(source, process.stdin, 1 << 20)
            process.stdin.close()
            printed = process.stdout.read().decode()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args, printed)
        return printed

    return run


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ours(shell: Shell, house: Wheelhouse) -> float:
    """Seconds to send all bundles to a bare host and install them."""
    shell(f"rm -rf {TOP}; mkdir -p {TOP}/wheels; sync", b"")

    def work() -> None:
        for bundle in house.bundles:
            shell(f"tar -x -C {TOP}/wheels", bundle.path)
        shell(f"cat > {TOP}/requirements.txt", house.requirements)
        places = f"{TOP}/releases {house.digest} {TOP}/wheels {TOP}/requirements.txt {TOP}/cache"
        shell(f"sh -s -- {places} /usr/bin/python3", SCRIPT)

    return seconds(work)


def plain(shell: Shell, requirements: str) -> float:
    """Seconds for pip to fetch and install the same lock on the host."""
    shell(f"rm -rf {TOP}; mkdir -p {TOP}; sync", b"")
    options = "--quiet --no-deps --require-hashes --no-cache-dir"

    def work() -> None:
        shell(
            f"python3 -m venv {TOP}/venv; "
            f"cat > {TOP}/lock; {TOP}/venv/bin/pip install {options} -r {TOP}/lock",
            requirements.encode(),
        )

    return seconds(work)


def compare(shell: Shell, *, cuda: bool, runs: int) -> dict[str, Spread]:
    """Both on one host, in turn; the kind of packages is that of the host."""
    shell("apt-get install -y -qq python3-venv >/dev/null", b"")
    asked = "import sys, platform; print(*sys.version_info[:2], platform.machine())"
    major, minor, machine = shell(f"python3 -c {shlex.quote(asked)}", b"").split()
    target = Target(python=(int(major), int(minor)), machine=machine)
    house = prepare(python=target.python, machine=machine, cuda=cuda, say=click.echo)
    locks = resources.locks()
    torch = locks.cuda if "+cpu" not in house.requirements.read_text() else locks.cpu
    lock = lines([*read_lock(locks.job, target), *read_lock(torch, target)])
    try:
        ways = {"ours": lambda: ours(shell, house), "pip": lambda: plain(shell, lock)}
        return {name: spread(times) for name, times in in_turn(runs, ways).items()}
    finally:
        shell(f"rm -rf {TOP}", b"")


@click.command()
@click.option("--ssh", required=True, help="the words that reach a host")
@click.option("--runs", default=3, show_default=True)
@click.option("--cuda", is_flag=True)
def main(ssh: str, runs: int, cuda: bool) -> None:
    click.echo(f"install on a bare host, s; {runs} runs, median (min - max)")
    for name, times in compare(ssh_shell(shlex.split(ssh)), cuda=cuda, runs=runs).items():
        click.echo(f"  {name:<6} {times}")


if __name__ == "__main__":
    main()
