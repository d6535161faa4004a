"""The notebook's kernel: an IPython extension with which `spark` is there when a cell names it.

The session has the settings of the kernel's profile. `%spark_settings` shows them, and
`%spark_settings KEY=VALUE …` begins a session with others.
"""

import ast
import atexit
import json
import logging
import math
import os
import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from IPython.core.interactiveshell import InteractiveShell
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from sentiment.errors import InvalidInputError, SentimentError
from sentiment.output import say
from sentiment.session import Place, find_place, setting, spark_session
from sentiment.watch import Patience, Watch

SETTINGS_VARIABLE: Final = "SENTIMENT_SPARK_SETTINGS"
_PROTECTED: Final = (
    "spark.master",
    "spark.authenticate",
    "spark.network.crypto.",
    "spark.network.sasl.",
    "spark.ui.filters",
    "spark.org.apache.spark.ui.JWSFilter.",
    "spark.driver.host",
    "spark.driver.bindAddress",
)
_PATIENCE: Final = Patience(look=2.0, say=20.0, silent=8.0, idle=math.inf)
_ASKS: Final = re.compile(r"(?<![.\w])spark(?!\w)")
_SIZE: Final = re.compile(r"(\d+)([kmgt]?)b?", re.IGNORECASE)
_MIB: Final = {"": 1.0, "k": 2.0**-10, "m": 1.0, "g": 2.0**10, "t": 2.0**20}


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Called by IPython when the kernel starts."""
    # What a cell starts with ! finds this Python's commands, and prints lines: ipykernel says that
    # it is a terminal, which would have bars and spinners drawn again and again below the cell.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ.setdefault("TTY_COMPATIBLE", "0")
    session = KernelSession(shell, json.loads(os.environ.get(SETTINGS_VARIABLE, "{}")))
    shell.events.register("pre_run_cell", session.before_cell)
    shell.register_magic_function(session.magic, "line", "spark_settings")  # type: ignore[arg-type]
    shell.set_custom_exc((PySparkException, Py4JError), session.show)  # type: ignore[no-untyped-call]
    # pyspark logs each error of a query that it raises, too.
    logging.getLogger("SQLQueryContextLogger").disabled = True
    atexit.register(session.close)


class KernelSession:
    """The Spark session of one kernel, made when a cell asks for it, and anew when it is lost."""

    def __init__(self, shell: InteractiveShell, settings: Mapping[str, str]) -> None:
        """Nothing is started yet. `settings` are stronger than those of the cluster."""
        self._shell = shell
        self._settings = dict(settings)
        self._stack = ExitStack()
        self._spark: SparkSession | None = None
        self._watch: Watch | None = None

    def before_cell(self, info: Any) -> None:
        """Have `spark` ready where the cell names it; else the cell is told why it is not."""
        if not asks_for_spark(info.raw_cell):
            return
        try:
            self._shell.user_ns["spark"] = self._ready()
        except SentimentError as error:
            self._shell.user_ns["spark"] = Absent(error)

    def _ready(self) -> SparkSession:
        """The session, begun if there is none or its Spark has ended.

        Raises:
            SentimentError: there is no cluster, it takes no application, or the settings fit none.
        """
        if self._spark is not None and not self._is_lost(self._spark):
            return self._spark
        self.close()
        place = find_place()
        require_fit(place, self._settings)
        say(f"spark: starting on {place.label} …")
        self._watch = Watch(place.master, _PATIENCE)
        self._spark = self._stack.enter_context(
            spark_session(place, name="notebook", watch=self._watch, settings=self._settings)
        )
        say("spark: ready")
        return self._spark

    def _is_lost(self, spark: SparkSession) -> bool:
        context = spark.sparkContext
        ended = context._jsc is None or bool(context._jsc.sc().isStopped())
        return ended or (self._watch is not None and self._watch.gone is not None)

    def magic(self, line: str) -> None:
        """`%spark_settings`: show those of the session; with KEY=VALUE …: begin one with these."""
        given = dict(word.partition("=")[::2] for word in line.split())
        for key, value in given.items():
            require_setting(key, value)
        if given:
            self._change({**self._settings, **given})
        for key, value in sorted(self._settings.items()):
            print(f"{key}={value}")

    def _change(self, settings: dict[str, str]) -> None:
        """Begin a session with these settings; those of before stay if there is none with them."""
        require_fit(find_place(), settings)
        self.close()
        before, self._settings = self._settings, settings
        try:
            self._shell.user_ns["spark"] = self._ready()
        except BaseException:
            self._settings = before
            raise

    def show(
        self,
        shell: InteractiveShell,
        _kind: type[BaseException],
        error: BaseException,
        *_: Any,
        **__: Any,
    ) -> None:
        """Show an error of Spark's; that the cluster is gone says more than it does."""
        if self._watch is not None and self._watch.gone:
            error = SentimentError(
                f"the cluster went away: {self._watch.gone}",
                todo="look at it: sparkbundle status; when it is up, run the cells again",
            )
        shell.showtraceback((type(error), error, error.__traceback__), running_compiled_code=True)

    def close(self) -> None:
        """End the session, if there is one."""
        stack, self._stack, self._spark = self._stack, ExitStack(), None
        stack.close()


def require_setting(key: str, value: str) -> None:
    """Check that a notebook may change a setting of Spark's.

    Raises:
        InvalidInputError: it is none, has no value, or says where and how the cluster is reached.
    """
    if not key.startswith("spark."):
        what = f"{key!r} is no setting"
    elif not value:
        what = f"{key} has no value"
    elif key.startswith(_PROTECTED):
        what = f"{key} cannot be changed: it is how this cluster is reached, or what protects it"
    else:
        return
    raise InvalidInputError(
        what,
        where="%spark_settings",
        todo="%spark_settings spark.executor.memory=512m spark.cores.max=1",
    )


def asks_for_spark(cell: str) -> bool:
    """Whether a cell names `spark`: in Python's code, or anywhere in one that has a magic."""
    if not _ASKS.search(cell):
        return False
    try:
        tree = ast.parse(cell)
    except (SyntaxError, ValueError):
        return True  # a magic, as in `%timeit spark.range(9).count()`
    return any(isinstance(node, ast.Name) and node.id == "spark" for node in ast.walk(tree))


class Absent:
    """What `spark` is where there is none: to use it says why."""

    def __init__(self, error: SentimentError) -> None:
        """Keep why."""
        self._error = error

    def __getattr__(self, name: str) -> Any:
        """Whatever is asked of it, but for what IPython looks for when it shows an object."""
        if name.startswith("_"):
            raise AttributeError(name)
        raise self._error

    def __repr__(self) -> str:
        """Why there is none."""
        return f"no Spark: {self._error}"


def require_fit(place: Place, settings: Mapping[str, str]) -> None:
    """Check that a worker can hold an executor of the size that is asked for.

    Spark itself would take the application, and wait for ever.

    Raises:
        InvalidInputError: none can.
    """
    for key in ("spark.executor.memory", "spark.executor.cores"):
        offered, asked = setting(place, key), settings.get(key)
        if offered and asked and _size(asked) > _size(offered):
            raise InvalidInputError(
                f"{key}={asked} is more than a worker of this cluster has: {offered}",
                where=place.label,
                todo=f"ask for less: %spark_settings {key}={offered}",
            )


def _size(text: str) -> float:
    """A number, or MiB of a size as Spark writes it; what is neither is Spark's to refuse."""
    match = _SIZE.fullmatch(text.strip())
    return int(match[1]) * _MIB[match[2].lower()] if match else 0.0
