"""What can go wrong, as one message a person can act on."""

from typing import Final

FAILED: Final = 1
USAGE: Final = 2
INVALID_INPUT: Final = 3
UNREACHABLE: Final = 4
LOCKED: Final = 5
PARTLY: Final = 7
INTERRUPTED: Final = 130


class Terminated(KeyboardInterrupt):
    """Asked to end by `kill`, a closed terminal, or who cancels the job: not by Ctrl-C."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text; the name of its class where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


class SentimentError(Exception):
    """A failure to show to the user: what failed, where, and what to do next.

    `code` is the exit code of the command that it ends (1 failed, 3 invalid
    input, 4 unreachable, 5 locked by another run).
    """

    def __init__(self, what: str, *, where: str = "", todo: str = "", code: int = FAILED) -> None:
        """Keep the parts apart, so that `--json` can show them apart."""
        super().__init__(what)
        self.what = what
        self.where = where
        self.todo = todo
        self.code = code

    def __str__(self) -> str:
        """The message as the command line prints it."""
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.todo:
            lines.append(f"  do:  {self.todo}")
        return "\n".join(lines)

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it in a notebook: the message, not the way through the code."""
        return [f"error: {self}"]

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling: an error raised on an executor reaches the driver whole."""
        return (_rebuild, (self.what, self.where, self.todo, self.code))


class InvalidInputError(SentimentError):
    """Input that cannot be used: a file, a line, an option's value. Exit code 3."""

    def __init__(
        self, what: str, *, where: str = "", todo: str = "", code: int = INVALID_INPUT
    ) -> None:
        """As SentimentError, with the exit code of invalid input."""
        super().__init__(what, where=where, todo=todo, code=code)


def _rebuild(what: str, where: str, todo: str, code: int) -> SentimentError:
    kind = InvalidInputError if code == INVALID_INPUT else SentimentError
    return kind(what, where=where, todo=todo, code=code)
