"""The command `sparkbundle`: its group of commands, and how errors end it."""

import os
import signal
import sys
import threading
import traceback
from types import FrameType
from typing import NoReturn

import click
from click.core import ParameterSource

from sparkbundle import __version__
from sparkbundle.commands import ENTRIES, LazyGroup
from sparkbundle.errors import INTERRUPTED, PREFLIGHT, USAGE, SparkbundleError
from sparkbundle.output import print_json, show_error, stderr_console, warn
from sparkbundle.settings import (
    ENVIRONMENT_PREFIX,
    FileSettings,
    load_files,
    unknown_variables,
    variable,
)


@click.group(
    cls=LazyGroup, entries=ENTRIES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="sparkbundle")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """One command to a secured Spark cluster, another to run jobs on it.

    \b
    Examples:
      sparkbundle up                 a master and two workers on this machine
      sparkbundle up -i hosts.yml    a cluster on hosts, over SSH
      sparkbundle submit -i hosts.yml --wait app.py
      sparkbundle status
      sparkbundle down

    Settings may also come from the environment (SPARKBUNDLE_UP_WORKERS=3),
    ./sparkbundle.toml or the user's config.toml: see `sparkbundle config show`.
    Shell completion: eval "$(_SPARKBUNDLE_COMPLETE=bash_source sparkbundle)"
    """
    context.meta["debug"] = debug
    assert isinstance(context.command, click.Group)
    settings = load_files(context.command)
    context.default_map = settings.values
    context.obj = settings
    for name, guess in unknown_variables(context.command).items():
        warn(f"{name} has no effect" + (f": did you mean {guess}?" if guess else ""))


def main() -> NoReturn:
    """Run the command line and exit with the codes of `sparkbundle.errors`."""
    # A closed terminal or `kill` is an interruption: what was half-started is ended. Under nohup
    # a closed terminal is none.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    sys.unraisablehook = _interrupt_again
    try:
        code = cli.main(standalone_mode=False, auto_envvar_prefix=ENVIRONMENT_PREFIX)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(USAGE)
    except click.UsageError as error:
        sys.exit(_show_usage_error(error))
    except click.Abort:
        show_error(SparkbundleError("interrupted", todo="see what is left: sparkbundle status"))
        sys.exit(INTERRUPTED)
    except SparkbundleError as error:
        _show_traceback()
        if "--json" in sys.argv:
            told = {"error": error.what, "where": error.where, "todo": error.todo}
            print_json({**told, "code": error.code})
        show_error(error)
        sys.exit(error.code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nobody to tell
        sys.exit(1)
    except Exception as error:
        _show_traceback()
        show_error(
            SparkbundleError(
                f"{type(error).__name__}: {error}",
                todo="this is a fault of sparkbundle: run it again with --debug and report it",
            )
        )
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _interrupt_again(lost: "sys.UnraisableHookArgs") -> None:
    """Ctrl-C that Python dropped, as it does between fork and exec, counts all the same."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        # A moment later, from another thread: what is raised in this hook is dropped as well.
        again = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)


def _show_traceback() -> None:
    if "--debug" in sys.argv:
        stderr_console().print(traceback.format_exc(), markup=False)


def _show_usage_error(error: click.UsageError) -> int:
    """Show a wrong option; one that came from a file or the environment is shown with its origin.

    Returns the exit code: 2 for the command line, 3 for what was set elsewhere.
    """
    context = error.ctx
    parameter = error.param if isinstance(error, click.BadParameter) else None
    if context is not None and parameter is not None and parameter.name is not None:
        source = context.get_parameter_source(parameter.name)
        settings = context.find_object(FileSettings)
        if source is ParameterSource.DEFAULT_MAP and settings and context.info_name:
            where = str(settings.files[context.info_name, parameter.name])
            show_error(SparkbundleError(error.format_message(), where=where, todo="mend the file"))
            return PREFLIGHT
        if source is ParameterSource.ENVIRONMENT:
            assert isinstance(parameter, click.Option)
            name = variable(context.info_name or "", parameter)
            show_error(SparkbundleError(error.format_message(), where=name, todo=f"unset {name}"))
            return PREFLIGHT
    error.show()
    return USAGE
