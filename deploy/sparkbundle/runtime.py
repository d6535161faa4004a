"""The Spark that is installed beside this package: pyspark's own jars and scripts."""

import importlib.util
import shlex
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from sparkbundle.errors import PreflightError

FAST_JVM = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
_QUIETLY = ("-Xshare:auto", "-Xlog:cds*=off")


@dataclass(frozen=True)
class Spark:
    """An installed Spark distribution."""

    home: Path

    @property
    def spark_class(self) -> Path:
        """The script that starts a Spark class in the foreground."""
        return self.home / "bin" / "spark-class"

    @property
    def java_options(self) -> str:
        """Options for what is idle most of its life, or short: it starts fast and stays small.

        With the archive of Spark's classes that `python -m sentiment.jvm` keeps, where there is
        one; Java goes on without it where it does not fit.
        """
        archive = Path(sys.prefix) / "share" / "sentiment" / f"spark-{version('pyspark')}.jsa"
        if not archive.is_file():
            return FAST_JVM
        return f"{FAST_JVM} {shlex.join((f'-XX:SharedArchiveFile={archive}', *_QUIETLY))}"


def require_notebook(*modules: str, otherwise: str = "") -> None:
    """Check that these packages of the extra `notebook` are there; `otherwise`: what else helps.

    Raises:
        PreflightError: one is not.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise PreflightError(
                f"{module} is not installed here",
                where=sys.prefix,
                todo=f"install it: pip install 'sentiment[notebook]'{otherwise}",
            )


def find_spark() -> Spark:
    """The Spark of this Python's pyspark package.

    A SPARK_HOME of the caller is not asked: it may hold another version and
    settings of its own.

    Raises:
        PreflightError: pyspark is not installed, or without its jars.
    """
    todo = "pip install 'sparkbundle[embedded]' (or in a checkout: make setup)"
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise PreflightError("the Python package pyspark is not installed", todo=todo)
    spark = Spark(Path(spec.origin).parent)
    if not spark.spark_class.is_file() or not (spark.home / "jars").is_dir():
        raise PreflightError(
            "this pyspark has no Spark inside (bin/spark-class, jars): it is the client only",
            where=str(spark.home),
            todo=todo,
        )
    return spark
