"""When the notebook's kernel has Spark ready: where a cell names it."""

import pytest

from sentiment.kernel import asks_for_spark


@pytest.mark.parametrize(
    "cell",
    [
        "spark",
        "df = spark.range(9)",
        'print(f"{spark.version}")',
        "%timeit spark.range(9).count()",
        "%%time\nspark.range(9).count()",
        "!echo {spark.version}",
        "def count():\n    return spark.range(9).count()",
    ],
)
def test_a_cell_that_names_it(cell: str):
    assert asks_for_spark(cell)


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "1 + 1",
        "sparkle = 1",
        "import sparkbundle",
        "open('/etc/sparkbundle/spark-defaults.conf')",
        "# spark is not needed here",
        '"no spark"',
        "session.spark",
    ],
)
def test_a_cell_that_only_seems_to(cell: str):
    assert not asks_for_spark(cell)
