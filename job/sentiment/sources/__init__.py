"""Sources of reviews: finding them, planning who reads what, and reading them.

Nothing here imports Spark, but `reviews_dataframe` once it is called.
"""

from typing import TYPE_CHECKING

from sentiment.sources.cut import cut_files
from sentiment.sources.find import find_source
from sentiment.sources.model import (
    FilePart,
    Part,
    ReadTask,
    Refused,
    Review,
    Source,
    SourceOptions,
    Tally,
)
from sentiment.sources.readers import read_task
from sentiment.sources.rules import reason_kind

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = [
    "FilePart",
    "Part",
    "ReadTask",
    "Refused",
    "Review",
    "Source",
    "SourceOptions",
    "Tally",
    "cut_files",
    "find_source",
    "read_task",
    "reason_kind",
    "reviews_dataframe",
]


def reviews_dataframe(spark: "SparkSession", source: Source) -> "DataFrame":
    """A source's rows on the cluster, see `sentiment.sources.frame.reviews_dataframe`."""
    from sentiment.sources.frame import reviews_dataframe as dataframe  # noqa: PLC0415

    return dataframe(spark, source)
