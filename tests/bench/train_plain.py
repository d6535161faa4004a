"""The peer of one worker: a plain PyTorch loop in one process on one core, as anybody writes it.

    python -m tests.bench.train_plain CORPUS TABLE RECIPE EPOCHS

Nothing of ours but the network, its optimizer, the reviews as ids and which of them are a batch.
The last line that it prints is JSON.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from sentiment.device import ON_CPU
from sentiment.examples import Examples, padded, scoring_batches, training_batches
from sentiment.loop import optimizer_for
from sentiment.recipes import RECIPES, with_changes
from sentiment.rounds import Job


def encoded(corpus: Path, table: str, recipe: str, epochs: int) -> tuple[Job, Examples, Examples]:
    """The job, the reviews to train on, and those held back."""
    # A machine that has only torch uses the rest of this module.
    from sentiment.corpus import open_corpus
    from sentiment.preparation import prepare
    from sentiment.session import find_place, spark_session
    from sentiment.vectors.store import find_table

    chosen = with_changes(RECIPES[recipe](), epochs=epochs)
    with spark_session(find_place("local[2]"), name="bench") as spark:
        prepared = prepare(
            spark, corpus=open_corpus(corpus), table=find_table(table), recipe=chosen, workers=1
        )
        train, held = (Examples.from_bytes(data) for data in prepared.encoded.collect())
    return prepared.job, train, held


def train_plainly(
    job: Job, examples: Examples, held: Examples, device: torch.device = ON_CPU
) -> list[dict[str, float]]:
    """Train as the recipe says; what each epoch came to."""
    torch.set_num_threads(1)
    recipe = job.recipe
    network = job.network().to(device)
    optimizer = optimizer_for(network, recipe.optimizer)
    steps = job.steps_per_epoch
    schedule = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps * recipe.train.epochs
    )
    epochs = []
    for epoch in range(recipe.train.epochs):
        started = time.perf_counter()
        network.train()
        seed = (recipe.train.seed, epoch)
        for rows in training_batches(examples, steps=steps, seed=seed, shard=0):
            ids, lengths = (one.to(device) for one in padded(examples, rows))
            labels = torch.from_numpy(examples.labels[rows]).float().to(device)
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(network(ids, lengths), labels).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.optimizer.clip_norm)
            optimizer.step()
            schedule.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        trained = time.perf_counter() - started
        right = accuracy(network, held)
        seconds = time.perf_counter() - started
        epochs.append(
            {
                "train_seconds": trained,
                "seconds": seconds,
                "accuracy": right,
                "ended": time.time(),
            }
        )
    return epochs


@torch.inference_mode()
def accuracy(network: torch.nn.Module, examples: Examples) -> float:
    network.eval()
    device = next(network.parameters()).device
    right = 0
    for rows in scoring_batches(examples.lengths, tokens=16_384):
        ids, lengths = (one.to(device) for one in padded(examples, rows))
        praised = network(ids, lengths).cpu().numpy() > 0
        right += int((praised == (examples.labels[rows] == 1)).sum())
    return right / len(examples)


if __name__ == "__main__":
    corpus, table, recipe, epochs = sys.argv[1:]
    job, examples, held = encoded(Path(corpus), table, recipe, int(epochs))
    tokens = int(np.sum(examples.lengths))
    print(json.dumps({"tokens": tokens, "epochs": train_plainly(job, examples, held)}))
