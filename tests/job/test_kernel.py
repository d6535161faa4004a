"""When the notebook's kernel has Spark ready: where a cell names it."""

import pytest

from sentiment.errors import InvalidInputError
from sentiment.kernel import asks_for_spark, require_setting


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


def test_a_setting_that_may_be_changed():
    require_setting("spark.executor.memory", "512m")


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("cores", "2", "'cores' is no setting"),
        ("spark.cores.max", "", "has no value"),
        ("spark.master", "local[1]", "cannot be changed"),
        ("spark.authenticate", "false", "cannot be changed"),
        ("spark.ui.filters", "none", "cannot be changed"),
        ("spark.network.crypto.enabled", "false", "cannot be changed"),
    ],
)
def test_what_a_notebook_may_not_change(key: str, value: str, what: str):
    with pytest.raises(InvalidInputError, match=what):
        require_setting(key, value)
