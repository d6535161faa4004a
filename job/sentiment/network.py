"""The network: word vectors, an LSTM in one or both directions, pooling, one logit.

Padding stands at the end and no direction ever reads it before a real token:
the backward direction gets each review reversed within its own length. So a
review's logit does not depend on what it is batched with.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentiment.examples import PADDING
from sentiment.recipes import ModelConfig
from sentiment.table_words import TableWords

_MULTIPLIER = 0x9E3779B1
"""Knuth's, of multiplicative hashing: odd, about 2^32 divided by the golden ratio."""
_SHIFT = 20


class GravesLSTM(nn.Module):
    """An LSTM with peephole connections and softsign activations.

    Graves, "Generating Sequences With Recurrent Neural Networks" (2013), eq. 7-11,
    with softsign for tanh as the talk's DL4J network had it.
    """

    def __init__(self, *, inputs: int, hidden: int) -> None:
        """Xavier weights, forget gate's bias 1, no peephole at the start."""
        super().__init__()
        self.hidden = hidden
        self.input_weight = nn.Parameter(torch.empty(4 * hidden, inputs))
        self.hidden_weight = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        self.peephole = nn.Parameter(torch.zeros(3, hidden))
        for weight in (self.input_weight, self.hidden_weight):
            for gate in weight.chunk(4):
                nn.init.xavier_uniform_(gate)
        with torch.no_grad():
            self.bias[hidden : 2 * hidden] = 1.0

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """[time, batch, inputs] → outputs [time, batch, hidden]."""
        projected = F.linear(x, self.input_weight, self.bias)
        weight = self.hidden_weight.t()
        peep_input, peep_forget, peep_output = self.peephole
        h = x.new_zeros(x.shape[1], self.hidden)
        c = h
        outputs = []
        for step in projected:
            i, f, g, o = torch.addmm(step, h, weight).chunk(4, dim=1)
            i = torch.sigmoid(i + peep_input * c)
            f = torch.sigmoid(f + peep_forget * c)
            c = f * c + i * F.softsign(g)
            o = torch.sigmoid(o + peep_output * c)
            h = o * F.softsign(c)
            outputs.append(h)
        return torch.stack(outputs), None


class Ngrams(nn.Module):
    """A weight for each word and each pair of neighbouring words: what a bag of them says.

    A linear model beside a deep one, trained together (Cheng et al. 2016, "Wide & Deep"); words
    and pairs share weights by hash (Joulin et al. 2017, fastText).
    """

    def __init__(self, config: ModelConfig) -> None:
        """All weights begin at zero: the bag says nothing."""
        super().__init__()
        self.buckets = config.ngrams
        self.dropout = config.ngram_dropout
        self.weight = nn.Parameter(torch.zeros(self.buckets, 1))

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Token ids [time, batch] and lengths [batch] → logits [batch]."""
        outside = torch.arange(ids.shape[0], device=ids.device)[:, None] >= lengths
        words = self._weights(ids, outside)
        pairs = self._weights(ids[:-1] * _MULTIPLIER + ids[1:], outside[1:])
        return (words.sum(dim=0) + pairs.sum(dim=0)) / lengths.sqrt()

    def _weights(self, keys: Tensor, outside: Tensor) -> Tensor:
        """The weight of each key, [time, batch]; zero outside of the reviews."""
        buckets = ((keys * _MULTIPLIER) >> _SHIFT) % self.buckets
        weights = F.embedding(buckets, self.weight).squeeze(2).masked_fill(outside, 0.0)
        return F.dropout(weights, self.dropout, self.training)


class SentimentNetwork(nn.Module):
    """From token ids to one logit a review (above 0: praise)."""

    def __init__(
        self, config: ModelConfig, *, vectors: Tensor, table_words: TableWords | None = None
    ) -> None:
        """`vectors` float32 [words + 2, dimensions]: rows of padding, unknown, the words.

        Ids from words + 2 on are rows of the word table of `table_words`.
        """
        super().__init__()
        self.config = config
        self.table_words = table_words
        self.embedding = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
            vectors, freeze=not config.tune_vectors, padding_idx=PADDING
        )
        directions = 2 if config.bidirectional else 1
        self.directions = nn.ModuleList(
            _recurrent(config, inputs=vectors.shape[1]) for _ in range(directions)
        )
        pooled = 2 if config.pooling == "max_mean" else 1
        self.output = nn.Linear(config.hidden * directions * pooled, 1)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.ngrams = Ngrams(config) if config.ngrams else None

    @property
    def device(self) -> torch.device:
        """Where its weights are, and its inputs have to be."""
        return self.output.weight.device

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Token ids [time, batch] and lengths [batch], each at least 1 → logits [batch]."""
        return self.read(self.embed(ids), ids, lengths)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [time, batch] → vectors [time, batch, dimensions], as `read` takes them.

        In training whole tokens are dropped, so that the network does not hang on single words.
        """
        rate = self.config.embedding_dropout
        if not self.training or rate == 0:
            return self._vectors(ids)
        # The vector of padding is zero, and stays so.
        kept = ids.masked_fill(torch.rand(ids.shape, device=ids.device) < rate, PADDING)
        return self._vectors(kept) / (1 - rate)

    def read(self, vectors: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
        """What `embed` returned, with the same ids and their lengths → logits [batch]."""
        time = torch.arange(ids.shape[0], device=ids.device)[:, None]
        inside = time < lengths
        outputs = [self.directions[0](vectors)[0]]
        if self.config.bidirectional:
            # Its own inverse: it turns the outputs back as it turned the vectors.
            reverse = torch.where(inside, lengths - 1 - time, time)
            backward = self.directions[1](_in_order(vectors, reverse))[0]
            if self.config.pooling == "last":
                backward = _in_order(backward, reverse)
            # Maximum and mean do not ask for the order.
            outputs.append(backward)
        pooled = self._pooled(outputs, inside, lengths)
        pooled = F.dropout(pooled, self.config.output_dropout, self.training)
        logits: Tensor = self.output(pooled).squeeze(1)
        return logits + self.ngrams(ids, lengths) if self.ngrams else logits

    def _vectors(self, ids: Tensor) -> Tensor:
        """Token ids [time, batch] → vectors [time, batch, dimensions]."""
        outside = ids >= self.embedding.num_embeddings
        if self.table_words is None or not outside.any():
            return self.embedding(ids)  # type: ignore[no-any-return]
        x = self.embedding(ids.masked_fill(outside, PADDING))
        return x.index_put((outside,), self.table_words.vectors(ids[outside]))  # type: ignore[no-any-return]

    def _pooled(self, outputs: list[Tensor], inside: Tensor, lengths: Tensor) -> Tensor:
        """[time, batch, features] of each direction → [batch, all features or twice as many]."""
        outputs = [x.float() for x in outputs]  # autocast makes bfloat16 of them
        if self.config.pooling == "last":
            # By index, not by gather: on a GPU the sums of its gradient have a fixed order.
            reviews = torch.arange(len(lengths), device=lengths.device)
            return torch.cat([x[lengths - 1, reviews] for x in outputs], dim=1)
        # Sums and products are several times as fast as masked_fill, and as exact: no output is
        # infinite.
        weight = inside.unsqueeze(2).to(outputs[0].dtype)
        away = torch.zeros_like(weight).masked_fill(weight == 0, float("-inf"))
        maximum = [(x + away).amax(dim=0) for x in outputs]
        mean = [(x * weight).sum(dim=0) / lengths.unsqueeze(1) for x in outputs]
        return torch.cat(maximum + mean, dim=1)


def _in_order(x: Tensor, order: Tensor) -> Tensor:
    """[time, batch, features] → the same, with review b's step t from its step order[t, b]."""
    rows = order * x.shape[1] + torch.arange(x.shape[1], device=x.device)
    return x.flatten(0, 1).index_select(0, rows.flatten()).view_as(x)


def _recurrent(config: ModelConfig, *, inputs: int) -> nn.Module:
    if config.cell == "graves":
        return GravesLSTM(inputs=inputs, hidden=config.hidden)
    lstm = nn.LSTM(inputs, config.hidden)
    hidden = config.hidden
    with torch.no_grad():
        # Remember by default (Jozefowicz et al. 2015); torch adds two biases.
        parameters = dict(lstm.named_parameters())
        parameters["bias_ih_l0"][hidden : 2 * hidden] = 1.0
        parameters["bias_hh_l0"][hidden : 2 * hidden] = 0.0
    return lstm
