"""A host's packages: ours (bundles sent, installed offline) beside plain pip from the registry.

    python -m tests.bench.install --ssh "ssh -F ssh_config node1" [--runs 3] [--cuda]
                                  [--find-links FOLDER] [--installers]

Both start from nothing and end with the same locked packages, hashes checked and bytecode made, in
a virtual environment. Not counted: making the wheelhouse (once, on the controller) and, for pip,
the OS package python3-venv, which ours does not need. pip builds pyspark's wheel on the host, since
registries hold its source only. Neither has anything of an earlier run.

--find-links names a folder of wheels on this machine that the registry lacks, such as torch's CPU
build; they are sent to pip's host over the same SSH, and count as a download would.
--installers compares two installers instead, both offline on the host from the same wheels.
"""

import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from sparkbundle import resources
from sparkbundle.wheelhouse import Wheelhouse, prepare
from sparkbundle.wheelhouse_lock import Target, lines, read_lock
from tests.bench.measure import in_turn, ratios, spread

Shell = Callable[[str, bytes | Path], str]
"""Runs a command on a host as root, with bytes or a file on its standard input; what it prints."""

TOP = "/var/tmp/sparkbundle-bench"  # on a disk of the host, and removed
SCRIPT = resources.roles() / "runtime/files/install_release.sh"
PIP = f"{TOP}/venv/bin/pip install --quiet --disable-pip-version-check --no-cache-dir"
CHECKED = "--require-hashes --no-deps"


def ssh_shell(words: list[str]) -> Shell:
    """A shell by `ssh` with these words, the host last."""

    def run(command: str, given: bytes | Path = b"") -> str:
        inside = f"sudo -n sh -euc {shlex.quote(command)}"
        with given.open("rb") if isinstance(given, Path) else tempfile.TemporaryFile() as source:
            if isinstance(given, bytes):
                source.write(given)
                source.seek(0)
            done = subprocess.run(
                [*words, inside], stdin=source, stdout=subprocess.PIPE, text=True, check=False
            )
        if done.returncode:
            raise click.ClickException(f"exit code {done.returncode} of: {command}")
        return done.stdout

    return run


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    taken = time.perf_counter() - started
    click.echo(f"  {taken:.1f} s", err=True)
    return taken


def target_of(shell: Shell) -> Target:
    """What packages the host takes; it gets the venv module that pip needs."""
    shell(
        "python3 -c 'import ensurepip' 2>/dev/null || { apt-get update -qq; "
        "apt-get install -y -qq python3-venv >/dev/null; }",
        b"",
    )
    asked = "import sys, platform; print(*sys.version_info[:2], platform.machine())"
    major, minor, machine = shell(f"python3 -c {shlex.quote(asked)}", b"").split()
    return Target(python=(int(major), int(minor)), machine=machine)


def send(shell: Shell, house: Wheelhouse) -> None:
    for bundle in house.bundles:
        shell(f"tar -x -C {TOP}/wheels", bundle.path)
    shell(f"cat > {TOP}/requirements.txt", house.requirements)


def ours(shell: Shell, house: Wheelhouse) -> float:
    """Seconds to send all bundles to a bare host and install them."""
    shell(f"rm -rf {TOP}; mkdir -p {TOP}/wheels; sync", b"")

    def work() -> None:
        send(shell, house)
        places = f"{TOP}/releases {house.digest} {TOP}/wheels {TOP}/requirements.txt {TOP}/cache"
        shell(f"sh -s -- {places} /usr/bin/python3", SCRIPT)

    return seconds(work)


def plain(shell: Shell, requirements: str, links: Path | None) -> float:
    """Seconds for pip to fetch and install the same lock on the host."""
    shell(f"rm -rf {TOP}; mkdir -p {TOP}/links; sync", b"")

    def work() -> None:
        for wheel in sorted(links.glob("*.whl")) if links else []:
            shell(f"cat > {TOP}/links/{shlex.quote(wheel.name)}", wheel)
        shell(
            f"python3 -m venv {TOP}/venv; "
            f"cat > {TOP}/lock; {PIP} {CHECKED} --find-links {TOP}/links -r {TOP}/lock",
            requirements.encode(),
        )

    return seconds(work)


def offline(shell: Shell, installer: str) -> float:
    """Seconds for an installer on the host to install wheels that lie there."""
    new = f"cd {TOP}; rm -rf venv uv-cache; sync"
    links = f"--no-index $(printf ' --find-links %s' {TOP}/wheels/*-*/) -r {TOP}/requirements.txt"
    commands = {
        "pip": f"python3 -m venv {TOP}/venv; {PIP} {CHECKED} {links}",
        "uv": f"export UV_CACHE_DIR={TOP}/uv-cache UV_OFFLINE=1 UV_NO_CONFIG=1; cd {TOP}; "
        "./uv venv -q -p /usr/bin/python3 venv; ./uv pip install -q -p venv/bin/python "
        f"{CHECKED} --link-mode hardlink --compile-bytecode {links}",
    }
    shell(new, b"")
    return seconds(lambda: shell(commands[installer], b""))


def unpack_uv(shell: Shell) -> None:
    """uv out of its bundle, as install_release.sh takes it."""
    code = (
        "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); "
        "sys.stdout.buffer.write(z.read("
        "next(n for n in z.namelist() if n.endswith('.data/scripts/uv'))))"
    )
    shell(
        f"python3 -c {shlex.quote(code)} {TOP}/wheels/uv-*/*.whl > {TOP}/uv; chmod +x {TOP}/uv", b""
    )


def compare(
    shell: Shell, *, cuda: bool, runs: int, links: Path | None, installers: bool
) -> dict[str, list[float]]:
    """The ways to install on one host, in turn; the kind of packages is that of the host."""
    target = target_of(shell)
    house = prepare(python=target.python, machine=target.machine, cuda=cuda, say=click.echo)
    ways: Mapping[str, Callable[[], float]]
    try:
        if installers:
            shell(f"rm -rf {TOP}; mkdir -p {TOP}/wheels", b"")
            send(shell, house)
            unpack_uv(shell)
            ways = {name: lambda name=name: offline(shell, name) for name in ("uv", "pip")}
        else:
            locks = resources.locks()
            torch = locks.cpu if "+cpu" in house.requirements.read_text() else locks.cuda
            lock = lines([*read_lock(locks.job, target), *read_lock(torch, target)])
            ways = {"ours": lambda: ours(shell, house), "pip": lambda: plain(shell, lock, links)}
        click.echo(f"{' and '.join(ways)} in turn, the first of each not counted", err=True)
        return in_turn(runs, ways)
    finally:
        shell(f"rm -rf {TOP}", b"")


@click.command()
@click.option("--ssh", required=True, help="the words that reach a host")
@click.option("--runs", default=3, show_default=True)
@click.option("--cuda", is_flag=True)
@click.option("--find-links", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--installers", is_flag=True, help="uv and pip, both offline")
def main(ssh: str, runs: int, cuda: bool, find_links: Path | None, installers: bool) -> None:
    shell = ssh_shell(shlex.split(ssh))
    times = compare(shell, cuda=cuda, runs=runs, links=find_links, installers=installers)
    what = "offline from wheels that lie there" if installers else "on a bare host"
    click.echo(f"install {what}, s; {runs} runs after one that is not counted, median (min – max)")
    for name, values in times.items():
        click.echo(f"  {name:<6} {spread(values)}")
    one, other = times
    click.echo(f"  {other} / {one}, pair by pair: {ratios(times[other], times[one])}")


if __name__ == "__main__":
    main()
