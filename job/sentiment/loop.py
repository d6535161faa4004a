"""The training loop. A strategy says how many copies of it run and how they agree.

A portion of work is a pure function of (state, examples, seed): the same bytes
in give the same bytes out, on whichever worker, however often.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F

from sentiment.examples import Examples, padded, scoring_batches
from sentiment.network import SentimentNetwork
from sentiment.recipes import OptimizerConfig

State = dict[str, Tensor]
"""What training changes: `model.NAME` weights and `optimizer.KEY.NAME` moments."""

SumGradients = Callable[[SentimentNetwork], float]
"""Adds the gradients of all workers up, in place; returns the seconds that it took."""

EVALUATION_TOKENS = 16_384


@dataclass(frozen=True)
class Piece:
    """What one shard brings to a portion: the rows of each step.

    `seed`: with the step's number, dropout's only source of chance.
    """

    examples: Examples
    batches: list[NDArray[np.int64]]
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Portion:
    """The steps that one worker makes before its state is asked for.

    Each step's loss is divided by its `reviews`, int64 [steps]: of these pieces, and of other
    workers' where gradients are summed.
    """

    pieces: list[Piece]
    reviews: NDArray[np.int64]
    first_step: int
    """Steps of the run made before: the schedule's clock."""
    total_steps: int


@dataclass(frozen=True)
class Measured:
    """What a portion of work, or several added up, came to. Loss is the sum over reviews."""

    reviews: int = 0
    tokens: int = 0
    loss: float = 0.0
    correct: int = 0
    gradient_norm: float = 0.0
    """Sum of each step's norm before clipping."""
    steps: int = 0
    seconds: float = 0.0
    sync_seconds: float = 0.0
    """Of the seconds, those in which gradients were summed with other workers'."""

    def __add__(self, other: "Measured") -> "Measured":
        """Both together; seconds add up too (they are the worker's, not the clock's)."""
        return Measured(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    @property
    def mean_loss(self) -> float:
        """Cross-entropy in nats a review."""
        return self.loss / max(self.reviews, 1)

    @property
    def accuracy(self) -> float:
        """Share of reviews on the right side of one half."""
        return self.correct / max(self.reviews, 1)


def train_portion(
    network: SentimentNetwork,
    portion: Portion,
    *,
    config: OptimizerConfig,
    state: State,
    sum_gradients: SumGradients | None = None,
) -> tuple[State, Measured]:
    """Load `state`, make the portion's steps, return the new state and what was measured.

    `sum_gradients` adds the gradients of all workers up, where they agree after each step.
    """
    optimizer = _optimizer(network, config)
    load_state(network, optimizer, state)
    network.train()
    started = time.perf_counter()
    measured = Measured()
    for index, reviews in enumerate(portion.reviews.tolist()):
        step = portion.first_step + index
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate_factor(
                config, step=step, total=portion.total_steps
            )
        optimizer.zero_grad()
        for piece in portion.pieces:
            torch.manual_seed(_dropout_seed(piece, step))
            measured += _backward(network, piece.examples, piece.batches[index], of=reviews)
        if sum_gradients is not None:
            measured += Measured(sync_seconds=sum_gradients(network))
        measured += Measured(gradient_norm=_clip(network, config), steps=1)
        optimizer.step()
    seconds = time.perf_counter() - started
    return save_state(network, optimizer), measured + Measured(seconds=seconds)


def _backward(
    network: SentimentNetwork, examples: Examples, rows: NDArray[np.int64], *, of: int
) -> Measured:
    """Add the gradients of these rows to the network's, as a part of a batch of `of` rows."""
    ids, lengths = padded(examples, rows)
    target = torch.from_numpy(examples.labels[rows]).float()
    logits = network(ids, lengths)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    (loss / of).backward()  # type: ignore[no-untyped-call]
    return Measured(
        reviews=len(target),
        tokens=int(lengths.sum()),
        loss=float(loss.detach()),
        correct=int(((logits > 0) == (target == 1)).sum()),
    )


def _dropout_seed(piece: Piece, step: int) -> int:
    return int(np.random.SeedSequence((*piece.seed, step)).generate_state(1)[0])


@torch.inference_mode()
def logits_of(network: SentimentNetwork, examples: Examples) -> NDArray[np.float32]:
    """The logit of each review, float32 [reviews]; a review without tokens gets NaN."""
    network.eval()
    result = np.full(len(examples), np.nan, dtype=np.float32)
    filled = np.flatnonzero(examples.lengths > 0)
    for batch in scoring_batches(examples.lengths[filled], tokens=EVALUATION_TOKENS):
        rows = filled[batch]
        result[rows] = network(*padded(examples, rows)).numpy()
    return result


def validate(network: SentimentNetwork, examples: Examples, *, state: State) -> Measured:
    """Loss and accuracy of `state` on labelled examples, without dropout."""
    load_weights(network, state)
    started = time.perf_counter()
    logits = torch.from_numpy(logits_of(network, examples))
    target = torch.from_numpy(examples.labels).float()
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    return Measured(
        reviews=len(examples),
        tokens=int(examples.offsets[-1]),
        loss=float(loss),
        correct=int(((logits > 0) == (target == 1)).sum()),
        seconds=time.perf_counter() - started,
    )


def initial_state(network: SentimentNetwork, config: OptimizerConfig) -> State:
    """The state before the first step."""
    return save_state(network, _optimizer(network, config))


def rate_factor(config: OptimizerConfig, *, step: int, total: int) -> float:
    """What the schedule multiplies the learning rate with at a step (from 0)."""
    if config.schedule == "constant":
        return 1.0
    return max(0.0, 1.0 - step / max(total, 1))


def state_to_bytes(state: State) -> bytes:
    """The state as safetensors: no pickle on any load path."""
    return save(state)


def state_from_bytes(data: bytes) -> State:
    """What `state_to_bytes` wrote."""
    return load(data)


def load_weights(network: SentimentNetwork, state: State) -> None:
    """Copy a state's weights into the network; frozen vectors are not part of a state."""
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, value in state.items():
            kind, _, rest = name.partition(".")
            if kind == "model":
                parameters[rest].copy_(value)


def load_state(network: SentimentNetwork, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Copy a state's weights and moments into the network and its optimizer."""
    load_weights(network, state)
    for name, parameter in _trained(network):
        moments = {
            key.split(".", 2)[1]: value.clone()
            for key, value in state.items()
            if key.startswith("optimizer.") and key.split(".", 2)[2] == name
        }
        if moments:
            optimizer.state[parameter] = moments


def save_state(network: SentimentNetwork, optimizer: torch.optim.Optimizer) -> State:
    """The weights and moments, copied."""
    state: State = {}
    for name, parameter in _trained(network):
        state[f"model.{name}"] = parameter.detach().clone()
        for key, value in optimizer.state[parameter].items():
            state[f"optimizer.{key}.{name}"] = value.detach().clone()
    return state


def _trained(network: SentimentNetwork) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in network.named_parameters() if p.requires_grad]


def _optimizer(network: SentimentNetwork, config: OptimizerConfig) -> torch.optim.Optimizer:
    vectors = [p for name, p in _trained(network) if name == "embedding.weight"]
    others = [p for name, p in _trained(network) if name != "embedding.weight"]
    groups = [{"params": others, "weight_decay": config.l2}]
    if vectors:
        groups.append({"params": vectors, "weight_decay": 0.0})
    if config.name == "rmsprop":
        # DL4J's RMSProp: decay 0.95, epsilon 1e-8.
        return torch.optim.RMSprop(groups, lr=config.learning_rate, alpha=0.95)
    # Fused: one pass over the word vectors a step, not ten (15 % of a step of `quick`).
    return torch.optim.Adam(groups, lr=config.learning_rate, fused=True)


def _clip(network: SentimentNetwork, config: OptimizerConfig) -> float:
    """Clip the gradient as the recipe says; its norm before that."""
    parameters = [p for _, p in _trained(network)]
    if config.clip_value is not None:
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        torch.nn.utils.clip_grad_value_(parameters, config.clip_value)
    else:
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm or math.inf)
    return float(norm)
