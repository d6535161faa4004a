import pytest
import torch
from torch import nn

from sentiment import recipes
from sentiment.network import GravesLSTM, Ngrams, SentimentNetwork

from .conftest import small_network


def test_a_bidirectional_network_equals_torchs_on_packed_sequences():
    """Two LSTMs, one over each review reversed, are torch's bidirectional LSTM."""
    network = small_network(recipes.with_changes(recipes.best(), ngrams=0))
    forward, backward = network.directions
    both = nn.LSTM(12, 24, bidirectional=True)
    both.load_state_dict(
        dict(forward.state_dict()) | {f"{k}_reverse": v for k, v in backward.state_dict().items()}
    )
    lengths = torch.tensor([7, 3, 5])
    ids = torch.randint(2, 20, (7, 3))
    x = network.embedding(ids)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    outputs, _ = nn.utils.rnn.pad_packed_sequence(both(packed)[0])
    inside = (torch.arange(7)[:, None] < lengths).unsqueeze(2)
    maximum = outputs.masked_fill(~inside, float("-inf")).amax(0)
    mean = outputs.sum(0) / lengths[:, None]
    expected = network.output(torch.cat([maximum, mean], 1)).squeeze(1)
    assert torch.allclose(network(ids, lengths), expected, atol=1e-5)


def test_graves_lstm_follows_its_equations():
    torch.manual_seed(0)
    cell = GravesLSTM(inputs=3, hidden=2)
    nn.init.normal_(cell.peephole)
    x = torch.randn(4, 1, 3)
    h = c = torch.zeros(1, 2)
    w, u, b, p = cell.input_weight, cell.hidden_weight, cell.bias, cell.peephole
    for step, output in zip(x, cell(x)[0], strict=True):
        gate = [w[k : k + 2] @ step[0] + u[k : k + 2] @ h[0] + b[k : k + 2] for k in (0, 2, 4, 6)]
        i, f = torch.sigmoid(gate[0] + p[0] * c), torch.sigmoid(gate[1] + p[1] * c)
        g = gate[2] / (1 + gate[2].abs())
        c = f * c + i * g
        h = torch.sigmoid(gate[3] + p[2] * c) * (c / (1 + c.abs()))
        assert torch.allclose(output, h, atol=1e-6)


@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_every_recipe_gives_one_logit_a_review(name):
    network = small_network(recipes.RECIPES[name]())
    logits = network(torch.randint(0, 20, (9, 5)), torch.tensor([9, 1, 4, 2, 8]))
    assert logits.shape == (5,)
    assert torch.isfinite(logits).all()


def test_dropout_acts_in_training_only():
    network = small_network(recipes.best())
    ids, lengths = torch.randint(2, 20, (6, 4)), torch.full((4,), 6)
    assert torch.equal(network(ids, lengths), network(ids, lengths))
    network.train()
    assert not torch.equal(network(ids, lengths), network(ids, lengths))


def test_frozen_vectors_have_no_gradient():
    vectors = torch.randn(10, 4)
    frozen = SentimentNetwork(recipes.talk().model, vectors=vectors)
    assert not frozen.embedding.weight.requires_grad


def test_ngrams_add_the_weights_of_words_and_pairs_by_the_root_of_the_length():
    config = recipes.with_changes(recipes.best(), ngrams=5000).model
    bag = Ngrams(config).eval()
    nn.init.normal_(bag.weight)
    ids = torch.tensor([[5], [7], [5], [7], [0]])

    def says(*words: int) -> float:
        with torch.no_grad():
            return float(bag(torch.tensor(words)[:, None], torch.tensor([len(words)])))

    told = bag(ids, torch.tensor([4])).item()  # the last is padding
    one = {i: says(i) for i in (5, 7)}
    # Two words alone are both words and their pair, by the root of two.
    pair = {(i, j): says(i, j) * 2**0.5 - one[i] - one[j] for i, j in ((5, 7), (7, 5))}
    assert pair[5, 7] != pytest.approx(pair[7, 5])
    expected = (2 * one[5] + 2 * one[7] + 2 * pair[5, 7] + pair[7, 5]) / 2
    assert told == pytest.approx(expected, abs=1e-5)
