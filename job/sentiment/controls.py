"""What a model must beat: the majority class, and TF-IDF with logistic regression.

The latter twice: of single words, and of words and pairs of neighbouring words, which knows of
"not good" and is the harder one to beat.
"""

from dataclasses import dataclass

from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import IDF, HashingTF, NGram, Normalizer, RegexTokenizer, SQLTransformer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sentiment.corpus import Corpus
from sentiment.sending import split_rows

FEATURES = 1 << 18
# Of 1e-3, 1e-4, 3e-5 and 1e-5 the best on the 4,980 held-out reviews of the README: a control
# should be as good as it can be.
REGULARISATION = 3e-5
ITERATIONS = 60
_WITH_PAIRS = "SELECT *, concat(single, pairs) AS words FROM __THIS__"


@dataclass(frozen=True)
class Control:
    """A control's name and its accuracy on the test split."""

    name: str
    accuracy: float


def controls(spark: SparkSession, corpus: Corpus, *, pairs: bool = False) -> list[Control]:
    """The controls, trained on the training split, measured on the test split.

    With `pairs` the one with pairs of words, too, which takes minutes.
    """
    train, test = (_labelled(spark, corpus, split) for split in ("train", "test"))
    measured = [
        _majority(corpus),
        Control("TF-IDF + logistic regression", _regression(train, test, pairs=False)),
    ]
    if pairs:
        accuracy = _regression(train, test, pairs=True)
        measured.append(Control("the same with pairs of words", accuracy))
    return measured


def _labelled(spark: SparkSession, corpus: Corpus, split: str) -> DataFrame:
    rows = split_rows(spark, corpus, split, ("text", "label")).where("label is not null")
    return rows.select("text", F.col("label").cast("double").alias("label"))


def _majority(corpus: Corpus) -> Control:
    """Always the label that the training split has more of."""
    train, test = corpus.labels("train"), corpus.labels("test")
    said = max(train, key=lambda label: train[label])
    return Control("majority class", test.get(said, 0) / sum(test.values()))


def _regression(train: DataFrame, test: DataFrame, *, pairs: bool) -> float:
    """Words, hashed; TF-IDF of unit length; L2-regularised logistic regression. Its accuracy."""
    splitter = RegexTokenizer(inputCol="text", outputCol="single", pattern=r"[^\w']+")
    words = [
        NGram(n=2, inputCol="single", outputCol="pairs"),
        SQLTransformer(statement=_WITH_PAIRS),
    ]
    pipeline = Pipeline(
        stages=[
            splitter,
            *(words if pairs else []),
            HashingTF(
                inputCol="words" if pairs else "single",
                outputCol="counts",
                numFeatures=FEATURES * (4 if pairs else 1),
            ),
            IDF(inputCol="counts", outputCol="tfidf", minDocFreq=2),
            Normalizer(inputCol="tfidf", outputCol="features"),
            LogisticRegression(regParam=REGULARISATION, maxIter=ITERATIONS, standardization=False),
        ]
    )
    scored = pipeline.fit(train).transform(test)
    right = scored.agg(F.avg((F.col("prediction") == F.col("label")).cast("double"))).first()
    assert right is not None
    return float(right[0])
