"""The tagger, its loss, and scores of whole entities."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score, precision_score, recall_score
from torch import nn

from model.ner.data_loader import UNKNOWN, fetch_dataloader
from model.ner.net import (
    Net,
    class_names,
    entity_scores,
    find_entities,
    given_valid_tags,
    loss_fn,
)
from tests.tasks.ner.helpers import params


@pytest.mark.parametrize("seed", range(20))
def test_entity_scores_are_those_of_seqeval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_types = int(rng.integers(1, 5))
    names = class_names(params(entity_types=[f"t{k}" for k in range(num_types)]))
    labels, predicted = [], []
    for length in rng.integers(1, 12, size=30):
        row = rng.integers(0, len(names), size=length)  # an I may stand anywhere
        guess = np.where(rng.random(length) < 0.3, rng.integers(0, len(names), length), row)
        labels.append(np.append(row, [-1] * int(rng.integers(1, 4))))
        predicted.append(np.append(guess, rng.integers(0, len(names), len(labels[-1]) - length)))
    outputs = np.eye(len(names))[np.concatenate(predicted)]
    ours = entity_scores(outputs, np.concatenate(labels))
    true = [[names[n] for n in row if n >= 0] for row in labels]
    found = [
        [names[n] for n in guess[: len(row)]] for guess, row in zip(predicted, true, strict=True)
    ]
    theirs = [s(true, found, zero_division=0) for s in (precision_score, recall_score, f1_score)]
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_an_entity_never_spans_two_sentences() -> None:
    b, i = 1, 2
    apart = np.array([0, b, i, -1, i, 0, -1])
    outputs = np.eye(3)[[0, b, i, i, i, 0, 2]]  # what is predicted for padding does not count
    assert entity_scores(outputs, apart) == (1.0, 1.0, 1.0)
    assert find_entities(np.where(apart < 0, 0, apart))[:, 0].sum() == 2


def test_scores_without_entities_are_zero() -> None:
    labels = np.array([0, 0, -1])
    assert entity_scores(np.eye(3)[[0, 0, 0]], labels) == (0.0, 0.0, 0.0)
    assert entity_scores(np.eye(3)[[0, 1, 0]], labels) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_padding_changes_nothing(sentences: Path, bidirectional: bool, num_layers: int) -> None:
    settings = params(bidirectional=bidirectional, num_layers=num_layers, learn_transitions=True)
    loader = fetch_dataloader(["val"], str(sentences), settings)["val"]
    torch.manual_seed(0)
    net = Net(settings).eval()
    assert isinstance(net.transitions, nn.Parameter)
    nn.init.normal_(net.transitions)
    with torch.no_grad():
        together = net(loader.inputs)
        for i in range(0, loader.num_examples, 5):
            length = int((loader.labels[i] >= 0).sum())
            alone = net(loader.inputs[i : i + 1, :length])
            assert torch.allclose(alone[0], together[i, :length], atol=1e-6)


def test_a_word_is_judged_by_what_stands_before_and_behind_it(sentences: Path) -> None:
    for bidirectional in (True, False):
        settings = params(bidirectional=bidirectional, num_layers=2)
        inputs = fetch_dataloader(["val"], str(sentences), settings)["val"].inputs[:1, :6]
        net = Net(settings).train()  # what evaluation does with the scores looks both ways
        with torch.no_grad():
            before = net(inputs)
            changed = inputs.clone()
            changed[:, 3] = UNKNOWN
            moved = (net(changed) - before).abs().sum(dim=2)[0] > 0
        assert moved.tolist() == [bidirectional] * 3 + [True] * 3


@pytest.mark.parametrize("learned", [False, True])
def test_tags_are_those_of_all_valid_sequences(learned: bool) -> None:
    torch.manual_seed(0)
    logits, lengths = 3 * torch.randn(3, 5, 5), [5, 3, 1]
    is_word = torch.arange(5) < torch.tensor(lengths).unsqueeze(1)
    transitions = torch.randn(5, 5) if learned else torch.zeros(5, 5)
    found = given_valid_tags(logits, is_word, transitions).exp()
    transitions[:, 0] = 0  # what those to O count for
    for row, length in enumerate(lengths):
        sums = torch.zeros(length, 5)
        for tags in itertools.product(range(5), repeat=length):
            before = (0, *tags[:-1])
            pairs = zip(before, tags, strict=True)
            if all(tag in (0, 1, 3) or last in (tag, tag - 1) for last, tag in pairs):
                score = logits[row, range(length), tags].sum() + transitions[before, tags].sum()
                sums[range(length), tags] += score.exp()
        assert torch.allclose(found[row, :length], sums / sums.sum(1, keepdim=True), atol=1e-6)


def test_the_outside_bias_finds_more_entities_in_evaluation_alone(sentences: Path) -> None:
    share = {}
    for bias in (0.0, 0.7):
        settings = params(outside_bias=bias)
        inputs = fetch_dataloader(["val"], str(sentences), settings)["val"].inputs[:4]
        torch.manual_seed(0)
        net = Net(settings)
        with torch.no_grad():
            share[bias] = net.train()(inputs), net.eval()(inputs).softmax(2)[..., 0]
    assert torch.equal(share[0.0][0], share[0.7][0])
    words = inputs[..., 0] > 0
    assert (share[0.7][1] < share[0.0][1])[words].all()


def test_the_loss_is_the_mean_over_the_words(sentences: Path) -> None:
    settings = params()
    loader = fetch_dataloader(["val"], str(sentences), settings)["val"]
    outputs = torch.randn(*loader.labels.shape, len(class_names(settings)))
    words = loader.labels >= 0
    picked = outputs.log_softmax(2)[words].gather(1, loader.labels[words].unsqueeze(1))
    assert loss_fn(outputs, loader.labels).item() == pytest.approx(-picked.mean().item(), rel=1e-5)
