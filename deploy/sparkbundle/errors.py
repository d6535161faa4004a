"""What can go wrong, as one message a person can act on."""

from dataclasses import dataclass
from typing import Final

FAILED: Final = 1
USAGE: Final = 2
PREFLIGHT: Final = 3
UNREACHABLE: Final = 4
LOCKED: Final = 5
AUTHENTICATION: Final = 6
PARTLY: Final = 7
INTERRUPTED: Final = 130


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """One row of the table that is shown when daemons do not do what they should."""

    daemon: str
    phase: str
    reason: str
    log: str
    last_lines: tuple[str, ...] = ()
    todo: str = ""


class SparkbundleError(Exception):
    """A failure to show to the user: what failed, where, and what to do next.

    `code` is the exit code of the command that it ends (see the constants of
    this module); `troubles` has one row for each daemon that is not well.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        todo: str = "",
        code: int = FAILED,
        troubles: tuple[Trouble, ...] = (),
    ) -> None:
        """Keep the parts apart: the command line decides how they look."""
        super().__init__(what)
        self.what = what
        self.where = where
        self.todo = todo
        self.code = code
        self.troubles = troubles


class PreflightError(SparkbundleError):
    """Something that must be right before anything is changed. Exit code 3."""

    def __init__(self, what: str, *, where: str = "", todo: str = "") -> None:
        """As SparkbundleError."""
        super().__init__(what, where=where, todo=todo, code=PREFLIGHT)


class InterruptedRunError(SparkbundleError):
    """The user or a signal stopped the run; the message says what state is left. Exit code 130."""

    def __init__(self, what: str, *, todo: str = "") -> None:
        """As SparkbundleError."""
        super().__init__(what, todo=todo, code=INTERRUPTED)
