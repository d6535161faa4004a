"""What a training run tells its event file, as plain values."""

from typing import Any

from sentiment.checkpoint import Checkpoint
from sentiment.corpus import Corpus
from sentiment.loop import Measured
from sentiment.preparation import Prepared
from sentiment.recipes import Recipe
from sentiment.rounds import Round
from sentiment.strategy import RoundResult
from sentiment.vectors import WordTable


def start_figures(
    prepared: Prepared, *, corpus: Corpus, table: WordTable, begun: Checkpoint | None
) -> dict[str, Any]:
    """What is trained and on what; `begun`: the checkpoint that the run goes on from."""
    recipe, assignment = prepared.job.recipe, prepared.assignment
    return {
        "recipe": recipe.to_json(),
        "workers": assignment.workers,
        "rows": assignment.training_rows,
        "validation_rows": assignment.validation_rows,
        "rows_without_label": assignment.without_label,
        "vocabulary": len(prepared.vocabulary),
        "steps_per_epoch": prepared.job.steps_per_epoch,
        "rounds": recipe.train.epochs * recipe.train.rounds_per_epoch,
        "rounds_made": begun.rounds if begun else 0,
        "corpus": str(corpus.path),
        "word_table": table.digest,
    }


def round_figures(which: Round, recipe: Recipe, result: RoundResult) -> dict[str, Any]:
    """What a round came to; `shards`: each worker's part."""
    total = result.total
    return {
        "round": which.number(recipe) + 1,
        "epoch": which.epoch + 1,
        **figures(total, prefix="train_"),
        "gradient_norm": round(total.gradient_norm / max(total.steps, 1), 4),
        "steps": total.steps,
        "tokens": total.tokens,
        "seconds": round(result.seconds, 3),
        "overhead_seconds": round(result.overhead, 3),
        "tokens_per_second": round(total.tokens / result.seconds),
        "shards": [
            {"rows": m.reviews, "tokens": m.tokens, "seconds": round(m.seconds, 3)}
            for m in result.workers
        ],
    }


def figures(measured: Measured, prefix: str) -> dict[str, Any]:
    """Loss, accuracy and rows, each with the prefix before its name."""
    return {
        f"{prefix}loss": round(measured.mean_loss, 6),
        f"{prefix}accuracy": round(measured.accuracy, 6),
        f"{prefix}rows": measured.reviews,
    }
