"""The peers of scoring: what one would write first. Nothing of ours in them but the network.

Batches are 100 reviews as they come, padded to their longest: pyspark's example of
`predict_batch_udf` has that size.
"""

import time

import torch

BATCH = 100


def batch_probabilities(model, tokens, texts):
    """Probabilities of a batch of texts, padded to its longest."""
    encoded = [model.vocabulary.encode(tokens(text, limit=model.max_tokens)) for text in texts]
    lengths = torch.tensor([max(len(ids), 1) for ids in encoded])
    ids = torch.zeros(int(lengths.max()), len(encoded), dtype=torch.int64)
    for column, review in enumerate(encoded):
        ids[: len(review), column] = torch.tensor(review)
    with torch.inference_mode():
        return torch.sigmoid(model.network(ids, lengths)).numpy()


def one_process(model, tokens, texts, *, threads):
    """Seconds of a plain loop over all texts, with so many threads of torch's."""
    torch.set_num_threads(threads)
    started = time.perf_counter()
    for start in range(0, len(texts), BATCH):
        batch_probabilities(model, tokens, texts[start : start + BATCH])
    return time.perf_counter() - started


def predict_maker(files):
    """What pyspark.ml.functions.predict_batch_udf takes: makes the model, then predicts."""

    def make_predict():
        from sentiment.model import model_from_files
        from sentiment.text import tokens

        model = model_from_files(files.value, where="the benchmark")

        def predict(texts):
            return batch_probabilities(model, tokens, list(texts))

        return predict

    return make_predict


def without_buckets(files, threads):
    """Our own function, but for the order: batches as the rows come."""

    def score(batches):
        import numpy as np
        import pyarrow as pa

        from sentiment.examples import pack, padded
        from sentiment.model import model_from_files
        from sentiment.score import MODELS
        from sentiment.table_words import encode
        from sentiment.text import text_id, tokens

        torch.set_num_threads(threads)
        model = MODELS.get("bench", lambda: model_from_files(files.value, where="the benchmark"))
        for batch in batches:
            texts = batch["text"].to_pylist()
            read = [tokens(text)[: model.max_tokens] for text in texts]
            encoded = encode(read, model.vocabulary, model.network.table_words)
            examples = pack(encoded, labels=[-1] * len(texts), positions=range(len(texts)))
            logits = np.zeros(len(texts))
            with torch.inference_mode():
                for start in range(0, len(texts), BATCH):
                    rows = np.arange(start, min(start + BATCH, len(texts)))
                    logits[rows] = model.network(*padded(examples, rows)).numpy()
            yield pa.RecordBatch.from_pydict(
                {"id": [text_id(text) for text in texts], "probability": 1 / (1 + np.exp(-logits))}
            )

    return score
