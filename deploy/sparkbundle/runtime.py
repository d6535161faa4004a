"""The Spark that is installed beside this package: pyspark's own jars and scripts."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from sparkbundle.errors import PreflightError


@dataclass(frozen=True)
class Spark:
    """An installed Spark distribution."""

    home: Path

    @property
    def spark_class(self) -> Path:
        """The script that starts a Spark class in the foreground."""
        return self.home / "bin" / "spark-class"


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
