"""The peer: plain PyTorch in one process on one core, nothing of ours but the network."""

import time

import torch


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
