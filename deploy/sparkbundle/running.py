"""One command on many hosts at once, its output line by line as it comes."""

import shlex
import threading
from collections.abc import Callable, Iterable, Sequence, Sized

from sparkbundle.errors import FAILED, InterruptedRunError, SparkbundleError
from sparkbundle.hosts import Answer, Hosts, as_root
from sparkbundle.inventory import Host
from sparkbundle.reach import exit_code
from sparkbundle.sessions import BLOCK, Sessions, draining, exit_status

# So long the commands may take to end after Ctrl-C. The script below kills after 3 s.
_GRACE_SECONDS = 6.0

# A server does not end the command of a session that was closed. So a watcher on the host
# waits for the end of the session's input, which comes with Ctrl-C here and with a lost
# connection, and ends the command with all that it started: they are one process group.
_KEEPER = (
    "trap 'exit 143' TERM; exec 3<&0; "
    'sh -c "$1" </dev/null 3<&- & job=$!; '
    "(trap '' TERM; while read -r _ <&3; do :; done; kill -s TERM 0; sleep 3; kill -s KILL 0)"
    " >/dev/null 2>&1 & watcher=$!; "
    "exec 3<&-; wait $job; code=$?; kill -s KILL $watcher; exit $code"
)

Show = Callable[[str, str, bool], None]


def line_of(words: Sequence[str]) -> str:
    """The shell line of a command's words.

    One word is a line as it stands ("ps aux | wc -l"); of several each arrives as it is.
    """
    return words[0] if len(words) == 1 else shlex.join(words)


def run_everywhere(
    hosts: Hosts,
    command: str,
    *,
    chosen: Sequence[Host],
    sudo: bool = False,
    show: Show | None = None,
) -> dict[str, Answer | SparkbundleError]:
    """Run a shell line on hosts; what it came to, by host.

    `show` is given each line when it is complete: the host, the line, whether it comes from
    standard error. The answers hold the output only where there is no `show`.

    Raises:
        InterruptedRunError: Ctrl-C; the commands on the hosts have been ended.
    """
    sessions = Sessions(hosts)
    kept = shlex.join(["sh", "-c", _KEEPER, "run", command])
    words = as_root(kept) if sudo else kept
    lock = threading.Lock()

    def work(host: Host) -> Answer:
        out = _Lines(host.name, failing=False, show=show, lock=lock)
        err = _Lines(host.name, failing=True, show=show, lock=lock)
        with sessions.session(host, words) as channel, draining(channel, err.take):
            while block := channel.recv(BLOCK):
                out.take(block)
            code = exit_status(channel)
        return Answer(host=host.name, code=code, out=out.end(), err=err.end())

    try:
        return sessions.each(work, chosen, grace=_GRACE_SECONDS)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted; the command was ended on {_count(chosen)}",
            todo="what it started in the background with setsid may still run",
        ) from None


class _Lines:
    """One stream of one host: shown line by line, or kept."""

    def __init__(
        self, host: str, *, failing: bool, show: Show | None, lock: threading.Lock
    ) -> None:
        self._host = host
        self._failing = failing
        self._show = show
        self._lock = lock
        self._buffer = bytearray()

    def take(self, block: bytes) -> None:
        self._buffer += block
        if self._show is None:
            return
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer[:] = rest
        with self._lock:
            for line in lines:
                self._show(self._host, line.decode(errors="replace"), self._failing)

    def end(self) -> str:
        """Show the last line if it lacks its end; what was kept."""
        if self._show is None:
            return self._buffer.decode(errors="replace")
        if self._buffer:
            self.take(b"\n")
        return ""


def run_code(answers: Iterable[Answer | SparkbundleError]) -> int:
    """The exit code of `run`: see `reach.exit_code`; a command that failed counts as 1."""
    return exit_code(
        [
            one.code if isinstance(one, SparkbundleError) else FAILED if one.code else 0
            for one in answers
        ]
    )


def summary(answers: dict[str, Answer | SparkbundleError]) -> str:
    """One line: on how many hosts it was well, and how it ended on the others."""
    failed = [
        f"{name} ({_ending(answer)})"
        for name, answer in answers.items()
        if isinstance(answer, SparkbundleError) or answer.code
    ]
    if not failed:
        return f"exit code 0 on {_count(answers)}"
    return f"failed on {len(failed)} of {_count(answers)}: {', '.join(failed)}"


def _ending(answer: Answer | SparkbundleError) -> str:
    if isinstance(answer, SparkbundleError):
        return answer.what
    return f"exit code {answer.code}" if answer.code >= 0 else "ended by a signal"


def _count(hosts: Sized) -> str:
    number = len(hosts)
    return "1 host" if number == 1 else f"{number} hosts"
