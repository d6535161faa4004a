"""The peer: plain PyTorch in one process on one core, nothing of ours but the network."""

import time

import torch
from torch.nn import functional as F


def train(network, batches, *, learning_rate, clip_norm):
    """Seconds for one step on each batch of (ids [time, rows], lengths, labels)."""
    torch.set_num_threads(1)
    optimizer = torch.optim.Adam(
        [p for p in network.parameters() if p.requires_grad], lr=learning_rate, fused=True
    )
    network.train()
    started = time.perf_counter()
    for ids, lengths, labels in batches:
        loss = F.binary_cross_entropy_with_logits(network(ids, lengths), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        optimizer.step()
    return time.perf_counter() - started


@torch.inference_mode()
def score(network, encode, batches):
    """Seconds to score batches of texts, each padded to its longest."""
    torch.set_num_threads(1)
    network.eval()
    started = time.perf_counter()
    for texts in batches:
        encoded = [encode(text) for text in texts]
        lengths = torch.tensor([len(ids) for ids in encoded])
        ids = torch.zeros(int(lengths.max()), len(encoded), dtype=torch.int64)
        for column, review in enumerate(encoded):
            ids[: len(review), column] = torch.tensor(review)
        torch.sigmoid(network(ids, lengths))
    return time.perf_counter() - started
