"""The peer of many workers: pyspark's own TorchDistributor with DDP, on a cluster.

    sparkbundle submit train_peer.py @CORPUS @TABLE RECIPE EPOCHS WORKERS INTERFACE

The same network, reviews, batches and optimizer as `sentiment train`; the workers add their
gradients up with torch's DistributedDataParallel, as its users do: over gloo, whose INTERFACE
they must name, since it takes what the host's own name resolves to. The last line that it
prints is JSON.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

from sentiment.corpus import open_corpus
from sentiment.dealing import shard_rows
from sentiment.examples import Examples
from sentiment.preparation import prepare
from sentiment.recipes import RECIPES, for_workers, with_changes
from sentiment.vectors.store import find_table


def train(job, data, held_back, workers, interface):
    """What each rank does; the first one's figures of each epoch."""
    import torch
    import torch.distributed as dist
    from torch.nn import functional as F
    from torch.nn.parallel import DistributedDataParallel

    from sentiment.dealing import deal
    from sentiment.examples import Examples, padded, scoring_batches, training_batches
    from sentiment.loop import optimizer_for

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = interface
    dist.init_process_group("gloo")
    rank, recipe = dist.get_rank(), job.recipe
    everything, held = Examples.from_bytes(data), Examples.from_bytes(held_back)
    network = DistributedDataParallel(job.network())
    optimizer = optimizer_for(network.module, recipe.optimizer)
    steps = job.steps_per_epoch
    schedule = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps * recipe.train.epochs
    )
    epochs = []
    for epoch in range(recipe.train.epochs):
        seed = (recipe.train.seed, epoch)
        dealt = deal(len(everything), shards=workers, seed=seed)
        mine = everything.select(np.flatnonzero(dealt == rank))
        dist.barrier()
        started = time.perf_counter()
        network.train()
        for rows in training_batches(mine, steps=steps, seed=seed, shard=rank):
            ids, lengths = padded(mine, rows)
            labels = torch.from_numpy(mine.labels[rows]).float()
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(network(ids, lengths), labels).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.optimizer.clip_norm)
            optimizer.step()
            schedule.step()
        dist.barrier()
        trained = time.perf_counter() - started
        right = 0
        network.eval()
        with torch.inference_mode():
            for rows in scoring_batches(held.lengths, tokens=16_384):
                praised = network.module(*padded(held, rows)).numpy() > 0
                right += int((praised == (held.labels[rows] == 1)).sum())
        seconds = time.perf_counter() - started
        epochs.append({"train_seconds": trained, "seconds": seconds, "accuracy": right / len(held)})
        print(epochs[-1], flush=True)
    dist.barrier()
    dist.destroy_process_group()
    return epochs


def main(corpus: str, table: str, recipe: str, epochs: str, workers: str, interface: str) -> None:
    number = int(workers)
    changed = with_changes(RECIPES[recipe](), epochs=int(epochs), strategy="allreduce")
    # Prepared as one worker's, for all its rows; the rate is that of our own allreduce.
    chosen = for_workers(changed, number)
    spark = SparkSession.builder.getOrCreate()
    prepared = prepare(
        spark, corpus=open_corpus(Path(corpus)), table=find_table(table), recipe=chosen, workers=1
    )
    data, held_back = prepared.encoded.collect()
    prepared.close()
    tokens = int(Examples.from_bytes(data).lengths.sum())
    rows = shard_rows(prepared.assignment.training_rows, shards=number)
    ranks = TorchDistributor(num_processes=number, local_mode=False, use_gpu=False)
    told = ranks.run(train, replace(prepared.job, rows=rows), data, held_back, number, interface)
    spark.stop()
    print(json.dumps({"tokens": tokens, "epochs": told}))


if __name__ == "__main__":
    main(*sys.argv[1:])
