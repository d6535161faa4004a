"""What a training run tells its event file, as plain values."""

from dataclasses import asdict
from typing import Any

from sentiment.checkpoint import Checkpoint
from sentiment.corpus import Corpus
from sentiment.layers import Distribution, distribution
from sentiment.loop import Measured, state_from_bytes
from sentiment.preparation import Prepared
from sentiment.rounds import Job, Round, learning_rate
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
        "device": prepared.job.device.kind,
        "gpus": list(prepared.gpus.names),
        "corpus": str(corpus.path),
        "word_table": table.digest,
    }


def round_figures(which: Round, job: Job, result: RoundResult) -> dict[str, Any]:
    """What a round came to; `shards`: each worker's part. The learning rate is its last step's."""
    total = result.total
    return {
        "round": which.number(job.recipe) + 1,
        "epoch": which.epoch + 1,
        **figures(total, prefix="train_"),
        "learning_rate": float(f"{learning_rate(job, which):.6g}"),
        "gradient_norm": round(total.gradient_norm / max(total.steps, 1), 4),
        "steps": total.steps,
        "tokens": total.tokens,
        "seconds": round(result.seconds, 3),
        "overhead_seconds": round(result.overhead, 3),
        "tokens_per_second": round(total.tokens / result.seconds),
        "shards": [
            {"rows": m.reviews, "tokens": m.tokens, "seconds": round(m.seconds, 3)}
            | ({"gpu": asdict(m.gpu)} if m.gpu else {})
            for m in result.workers
        ],
    }


def layer_figures(which: Round, job: Job, result: RoundResult, *, before: bytes) -> dict[str, Any]:
    """Weights after a round, their updates since the state `before` it, and gradients, by layer.

    The gradients are those that `result` has: of the last step of the first worker.
    """
    old, new = state_from_bytes(before), state_from_bytes(result.state)
    layers = []
    for name, gradients in (result.total.gradients or {}).items():
        weights = new[f"model.{name}"]
        spread = {
            "weight": distribution(weights),
            "update": distribution(weights - old[f"model.{name}"]),
            "gradient": gradients,
        }
        layers.append(
            {"name": name}
            | {f"{kind}_norm": one.norm for kind, one in spread.items()}
            | {f"{kind}s": _histogram(one) for kind, one in spread.items()}
        )
    return {"round": which.number(job.recipe) + 1, "epoch": which.epoch + 1, "layers": layers}


def _histogram(spread: Distribution) -> dict[str, Any]:
    return {"low": spread.low, "high": spread.high, "counts": spread.counts}


def figures(measured: Measured, prefix: str) -> dict[str, Any]:
    """Loss, accuracy and rows, each with the prefix before its name."""
    return {
        f"{prefix}loss": round(measured.mean_loss, 6),
        f"{prefix}accuracy": round(measured.accuracy, 6),
        f"{prefix}rows": measured.reviews,
    }
