"""The training loop. A strategy says how many copies of it run and how they agree.

A portion of work is a pure function of (state, examples, seed): the same bytes
in give the same bytes out, on whichever worker, however often.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F

from sentiment.device import GpuUse, Precision, autocast, gpu_use, moved
from sentiment.examples import Examples, padded, scoring_batches
from sentiment.layers import Gradients, distribution
from sentiment.network import SentimentNetwork
from sentiment.recipes import OptimizerConfig

State = dict[str, Tensor]
"""What training changes: `model.NAME` weights and `optimizer.KEY.NAME` moments."""

SumGradients = Callable[[SentimentNetwork], float]
"""Adds the gradients of all workers up, in place; returns the seconds that it took."""

EVALUATION_TOKENS = {"cpu": 16_384, "cuda": 131_072}
"""Padded tokens a batch that is not trained on: on a CPU what its caches hold, on a GPU enough for
all of its units."""


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
    listeners: bool = False
    """The gradients of the last step are measured, layer by layer."""


@dataclass(frozen=True)
class Overflow:
    """The first step whose loss or gradient was no finite number, and the rows it was made on.

    `positions`: the rows' places in the corpus.
    """

    step: int
    positions: tuple[int, ...]


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
    late_seconds: float = 0.0
    """Of the seconds, those of the second half of the steps, which are one more if odd."""
    overflow: Overflow | None = None
    gradients: Gradients | None = None
    """Of the last step, before clipping, where they were asked for; of several, the first ones'."""
    gpu: GpuUse | None = None
    """At the end of the last step, where it was made on one; of several, the last one's."""

    def __add__(self, other: "Measured") -> "Measured":
        """Both together; seconds add up too (they are the worker's, not the clock's)."""
        sums = {
            name: value + getattr(other, name)
            for name, value in vars(self).items()
            if name not in {"overflow", "gradients", "gpu"}
        }
        return Measured(
            **sums,
            overflow=_first(self.overflow, other.overflow),
            gradients=self.gradients or other.gradients,
            gpu=other.gpu or self.gpu,
        )

    @property
    def late_step_seconds(self) -> float:
        """Of a step of the second half of one worker's steps; there must have been one."""
        return self.late_seconds / (self.steps - self.steps // 2)

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
    precision: Precision = "float32",
) -> tuple[State, Measured]:
    """Load `state`, make the portion's steps, return the new state and what was measured.

    All of it is done where the network is; the state that is returned is on the CPU.
    `sum_gradients` adds the gradients of all workers up, where they agree after each step.
    """
    optimizer = optimizer_for(network, config)
    load_state(network, optimizer, state)
    network.train()
    started = late = time.perf_counter()
    measured, steps = Measured(), _Steps(network.device)
    for index, reviews in enumerate(portion.reviews.tolist()):
        if index == len(portion.reviews) // 2:
            steps.wait()
            late = time.perf_counter()
        step = portion.first_step + index
        factor = rate_factor(config, step=step, total=portion.total_steps)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        optimizer.zero_grad()
        for piece in portion.pieces:
            measured += _backward(
                network,
                piece.examples.select(piece.batches[index]),
                steps,
                of=reviews,
                noise=config.adversarial_noise,
                seed=_dropout_seed(piece, step),
                precision=precision,
            )
        if sum_gradients is not None:
            measured += Measured(sync_seconds=sum_gradients(network))
        if portion.listeners and index == len(portion.reviews) - 1:
            measured += Measured(gradients=_gradients(network))
        steps.norms.append(_clip(network, config))
        optimizer.step()
    use = gpu_use(network.device)  # while it is at work
    steps.wait()
    ended = time.perf_counter()
    measured += Measured(seconds=ended - started, late_seconds=ended - late, gpu=use)
    return save_state(network, optimizer), measured + steps.measured(portion)


@dataclass
class _Steps:
    """What the steps came to, kept where it was computed: a GPU would have to wait for each."""

    device: torch.device
    losses: list[Tensor] = field(default_factory=list)
    """Of each piece of each step."""
    correct: list[Tensor] = field(default_factory=list)
    """Of each piece of each step."""
    norms: list[Tensor] = field(default_factory=list)
    """Of each step's gradient."""

    def wait(self) -> None:
        """Until all of it is computed."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def measured(self, portion: Portion) -> Measured:
        """All of it; the first step whose norm is no finite number is the overflow."""
        norms = _values(self.norms)
        first = next((i for i, norm in enumerate(norms) if not math.isfinite(norm)), None)
        overflow = None
        if first is not None:
            overflow = _overflow(portion, first, portion.first_step + first)
        return Measured(
            loss=sum(_values(self.losses)),
            correct=int(sum(_values(self.correct))),
            gradient_norm=sum(norms),
            steps=len(norms),
            overflow=overflow,
        )


def _values(tensors: list[Tensor]) -> list[float]:
    return torch.stack(tensors).tolist() if tensors else []


def _gradients(network: SentimentNetwork) -> Gradients:
    """How the gradients of all trained parameters are spread."""
    return {
        name: distribution(torch.zeros_like(p) if p.grad is None else p.grad)
        for name, p in _trained(network)
    }


def _overflow(portion: Portion, index: int, step: int) -> Overflow:
    rows = [piece.examples.positions[piece.batches[index]] for piece in portion.pieces]
    return Overflow(step, tuple(np.concatenate(rows).tolist()))


def _first(one: Overflow | None, other: Overflow | None) -> Overflow | None:
    """The earlier one; of one step, the rows of both."""
    if one is None or other is None:
        return one or other
    if one.step == other.step:
        return Overflow(one.step, one.positions + other.positions)
    return min(one, other, key=lambda overflow: overflow.step)


def _backward(
    network: SentimentNetwork,
    examples: Examples,
    steps: _Steps,
    *,
    of: int,
    noise: float,
    seed: int,
    precision: Precision,
) -> Measured:
    """Add the gradients of these reviews to the network's, as a part of a batch of `of`.

    What is measured is the loss without noise.
    """
    batch = padded(examples, np.arange(len(examples)))
    labels = torch.from_numpy(examples.labels).float()
    ids, lengths, target = moved(network.device, *batch, labels)

    def passed(worst: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        # With noise or without, the same is dropped.
        torch.manual_seed(seed)
        with autocast(network.device, precision):
            vectors = network.embed(ids)
            if noise:
                vectors = vectors if vectors.requires_grad else vectors.requires_grad_()
                vectors.retain_grad()
            logits = network.read(vectors if worst is None else vectors + worst, ids, lengths)
        logits = logits.float()
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        (loss / (2 * of if noise else of)).backward()  # type: ignore[no-untyped-call]
        return vectors, logits, loss

    vectors, logits, loss = passed()
    if noise:
        passed(worst(vectors, noise))
    steps.losses.append(loss.detach())
    steps.correct.append(((logits > 0) == (target == 1)).sum())
    return Measured(reviews=len(examples), tokens=len(examples.ids))


def worst(vectors: Tensor, length: float) -> Tensor:
    """The change of this length of each review's vectors that raises its loss most."""
    assert vectors.grad is not None
    gradient = vectors.grad
    norm = gradient.pow(2).sum(dim=(0, 2), keepdim=True).sqrt()
    return gradient * (length / norm.clamp_min(1e-12))


def _dropout_seed(piece: Piece, step: int) -> int:
    return int(np.random.SeedSequence((*piece.seed, step)).generate_state(1)[0])


@torch.inference_mode()
def logits_of(network: SentimentNetwork, examples: Examples) -> NDArray[np.float32]:
    """The logit of each review, float32 [reviews]; a review without tokens gets NaN."""
    network.eval()
    result = np.full(len(examples), np.nan, dtype=np.float32)
    filled = np.flatnonzero(examples.lengths > 0)
    device = network.device
    tokens = EVALUATION_TOKENS[device.type]
    batches = [filled[batch] for batch in scoring_batches(examples.lengths[filled], tokens=tokens)]
    # A GPU computes the next ones while one travels back.
    logits = [network(*moved(device, *padded(examples, rows))) for rows in batches]
    for rows, values in zip(batches, logits, strict=True):
        result[rows] = values.cpu().numpy()
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
    return save_state(network, optimizer_for(network, config))


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
            key.split(".", 2)[1]: value.to(parameter.device, copy=True)
            for key, value in state.items()
            if key.startswith("optimizer.") and key.split(".", 2)[2] == name
        }
        if moments:
            optimizer.state[parameter] = moments


def save_state(network: SentimentNetwork, optimizer: torch.optim.Optimizer) -> State:
    """The weights and moments, copied, on the CPU."""
    state: State = {}
    for name, parameter in _trained(network):
        state[f"model.{name}"] = parameter.detach().to("cpu", copy=True)
        for key, value in optimizer.state[parameter].items():
            state[f"optimizer.{key}.{name}"] = value.detach().to("cpu", copy=True)
    return state


def _trained(network: SentimentNetwork) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in network.named_parameters() if p.requires_grad]


def optimizer_for(network: SentimentNetwork, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The recipe's optimizer; each group's `initial_lr` is its rate at the first step."""
    rate = config.learning_rate
    sparse = {"embedding.weight": rate, "ngrams.weight": rate * config.ngram_rate}
    groups = [
        _group([p for name, p in _trained(network) if name not in sparse], rate, config.l2),
        *(_group([p], sparse[name], 0.0) for name, p in _trained(network) if name in sparse),
    ]
    if config.name == "rmsprop":
        # DL4J's RMSProp: decay 0.95, epsilon 1e-8.
        return torch.optim.RMSprop(groups, alpha=0.95)
    # Fused: one pass over a table of weights a step, not ten.
    return torch.optim.Adam(groups, fused=True)


def _group(parameters: list[torch.nn.Parameter], rate: float, l2: float) -> dict[str, Any]:
    return {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": l2}


def _clip(network: SentimentNetwork, config: OptimizerConfig) -> Tensor:
    """Clip the gradient as the recipe says; its norm before that, one number."""
    parameters = [p for _, p in _trained(network)]
    if config.clip_value is not None:
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        torch.nn.utils.clip_grad_value_(parameters, config.clip_value)
    else:
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm or math.inf)
    return norm
