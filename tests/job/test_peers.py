"""Workers that add gradients up at every step: the same as one that has all the shards."""

import multiprocessing
import socket

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sentiment.examples import padded, training_batches
from sentiment.loop import rate_factor, state_from_bytes
from sentiment.peers import Meeting, MeetingPlace, met
from sentiment.rounds import Round, run_round

from .test_rounds import separable, small_job

HERE = "127.0.0.1"


def test_one_worker_is_the_plain_loop_bit_for_bit():
    """Averaging and allreduce at one worker beside a loop in PyTorch's own words."""
    job, examples, which = small_job(), separable(), Round(0, 0)
    train, optimizer = job.recipe.train, job.recipe.optimizer
    network = job.network()
    network.train()
    pairs = [network.ngrams.weight]
    others = [p for p in network.parameters() if p.requires_grad and p is not pairs[0]]
    adam = torch.optim.Adam([{"params": others}, {"params": pairs}], fused=True)
    rates = (optimizer.learning_rate, optimizer.learning_rate * optimizer.ngram_rate)
    seed = (train.seed, 0)
    batches = training_batches(examples, steps=job.steps_per_epoch, seed=seed, shard=0)
    steps = job.steps_per_epoch // train.rounds_per_epoch
    for step, rows in enumerate(batches[:steps]):
        torch.manual_seed(int(np.random.SeedSequence((*seed, 0, step)).generate_state(1)[0]))
        total = train.epochs * job.steps_per_epoch
        for group, rate in zip(adam.param_groups, rates, strict=True):
            group["lr"] = rate * rate_factor(optimizer, step=step, total=total)
        target = torch.from_numpy(examples.labels[rows]).float()
        loss = F.binary_cross_entropy_with_logits(network(*padded(examples, rows)), target)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), optimizer.clip_norm)
        adam.step()
    plain = {f"model.{name}": p for name, p in network.named_parameters()}
    for summing in (None, lambda _: 0.0):
        after, _ = run_round(
            job, [(0, examples)], which, state=job.first_state(), sum_gradients=summing
        )
        state = state_from_bytes(after)
        trained = {name for name in state if name.startswith("model.")}
        assert trained == plain.keys() - {"model.embedding.weight"}  # frozen
        assert all(torch.equal(state[name], plain[name]) for name in trained)


def shards(count):
    return [(shard, separable(100 + shard, seed=shard)) for shard in range(count)]


def worker(meeting, answers, rank):
    job = small_job(rows=(100, 101, 102), tune_vectors=True)
    mine = shards(3)[rank :: meeting.size]
    with met(meeting, rank=rank, address=HERE) as summing:
        after, measured = run_round(
            job, mine, Round(0, 0), state=job.first_state(), sum_gradients=summing
        )
    answers.put((rank, after, measured))


def test_workers_that_sum_gradients_agree_and_do_what_one_with_all_shards_does():
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    place = MeetingPlace(HERE)
    meeting = place.meeting(2)
    workers = [context.Process(target=worker, args=(meeting, answers, rank)) for rank in range(2)]
    for one in workers:
        one.start()
    got = {}
    for _ in workers:
        rank, after, measured = answers.get(timeout=120)
        got[rank] = after, measured
    for one in workers:
        one.join(30)
    assert got[0][0] == got[1][0], "the workers' weights differ"
    job = small_job(rows=(100, 101, 102), tune_vectors=True)
    alone, measured = run_round(
        job, shards(3), Round(0, 0), state=job.first_state(), sum_gradients=lambda _: 0.0
    )
    together = got[0][1] + got[1][1]
    assert together.reviews == measured.reviews
    assert together.loss == pytest.approx(measured.loss, rel=1e-5)
    assert got[0][1].sync_seconds > 0
    theirs, ours = state_from_bytes(got[0][0]), state_from_bytes(alone)
    for name in ours:
        assert torch.allclose(theirs[name], ours[name], atol=1e-5), name


def test_the_store_is_served_on_the_given_address_alone():
    """Not on every interface, as TCPStore would by itself."""
    place = MeetingPlace(HERE)
    port = place.meeting(2).port
    with socket.create_connection((HERE, port)):
        pass
    with socket.socket() as other:
        # The same port of another address of this machine is free.
        other.bind(("127.0.0.2", port))


def test_behind_another_address_the_driver_binds_its_own():
    """As in a container: spark.driver.host is not this host's, spark.driver.bindAddress is."""
    place = MeetingPlace("192.0.2.1", bind=HERE)
    meeting = place.meeting(2)
    assert meeting.address == "192.0.2.1"
    with socket.create_connection((HERE, meeting.port)):
        pass


def test_an_address_that_no_interface_has_is_refused():
    meeting = met(Meeting(HERE, 1, "0", 2), rank=0, address="192.0.2.1")
    with pytest.raises(RuntimeError, match="no network interface"), meeting:
        pass
