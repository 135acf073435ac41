"""What outputs and labels of a first batch are taken for, and what does not fit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.base.errors import DataError, UsageError
from core.reading.misfits import CONTRAST, misfits
from core.reading.outputs import read_batch
from core.task import Task, default_collect

DRAWS = torch.Generator().manual_seed(1)


def task(loss: Callable[..., Any], metrics: dict[str, Any] | None = None, **more: Any) -> Task:
    return Task("a_task", lambda params: nn.Identity(), loss, metrics or {}, dict, **more)


def cross_entropy(ignored: int = -100) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        if outputs.ndim == 2:
            labels = labels.flatten()
        return F.cross_entropy(outputs, labels.long(), ignore_index=ignored)

    return loss


def of_last_axis(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), labels.flatten())


def masked(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over labels that are not negative, as the CS230 template's text task does."""
    mask = (labels >= 0).flatten().float()
    chosen = outputs.log_softmax(-1)[range(len(outputs)), labels.flatten() % outputs.shape[1]]
    return -(chosen * mask).sum() / mask.sum()


def margin(outputs: Tensor, labels: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-labels * outputs)).mean()


def of_probabilities(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.nll_loss(outputs.clamp(min=1e-9).log(), labels)


def spread(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return a loss of embeddings: distances within classes, the same whatever their numbers."""
    alike = labels[:, None] == labels
    distances = (outputs[:, None] - outputs).square().sum(-1)
    return (distances * alike).mean() + (1 - distances).relu().mul(~alike).mean()


def scores(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=DRAWS)


def numbers(count: int, *shape: int, low: int = 0) -> Tensor:
    return torch.randint(low, count, shape, generator=DRAWS)


@pytest.mark.parametrize(
    ("loss", "outputs", "labels", "kind", "ignored"),
    [
        (cross_entropy(), scores(12, 5), numbers(5, 12), "logits", (-100,)),
        (cross_entropy(255), scores(4, 3, 6, 6), numbers(3, 4, 6, 6), "logits", (255,)),
        (cross_entropy(), scores(4, 3, 6, 6), numbers(3, 4, 6, 6).byte(), "logits", ()),
        (masked, scores(4 * 7, 5), numbers(5, 4, 7), "logits", (-100, -1)),
        (of_probabilities, scores(12, 5).softmax(1), numbers(5, 12), "probabilities", (-100,)),
        (margin, scores(12), 2 * numbers(2, 12) - 1, "other", ()),
        (spread, scores(12, 8), numbers(3, 12), "other", ()),
        (cross_entropy(), scores(300, 256), torch.full((300,), 255), "logits", (-100,)),
    ],
    ids=[
        "classes",
        "pixels",
        "bytes",
        "tokens",
        "softmax",
        "plus_minus",
        "embeddings",
        "class_255",
    ],
)
def test_the_loss_tells_what_outputs_are_and_which_labels_it_ignores(
    loss: Any, outputs: Tensor, labels: Tensor, kind: str, ignored: tuple[int, ...]
) -> None:
    reading = read_batch(task(loss), outputs, labels)
    assert (reading.outputs, reading.ignored) == (kind, ignored)


def test_a_first_batch_of_padding_alone_still_tells_that_it_is_ignored() -> None:
    labels = torch.full((4, 7), -1)
    assert read_batch(task(masked), scores(28, 5), labels).ignored == (-100, -1)


@pytest.mark.parametrize(("loss", "axis"), [(cross_entropy(), 1), (of_last_axis, -1)])
def test_as_many_classes_as_tokens_are_told_apart_by_the_loss(loss: Any, axis: int) -> None:
    outputs, labels = scores(8, 5, 5), numbers(5, 8, 5)
    reading = read_batch(task(loss), outputs, labels)
    assert reading.class_axis == axis
    kept, known = reading.apply(task(loss)).collect(outputs, labels)
    right = outputs.argmax(axis).flatten() == labels.flatten()
    found = kept.argmax(1).flatten() == known.flatten()
    assert torch.equal(found, right)


def test_shapes_with_two_readings_that_the_loss_does_not_tell_apart_are_refused() -> None:
    outputs, labels = scores(8, 5, 5), numbers(5, 8, 5)
    with pytest.raises(DataError, match="two ways"):
        read_batch(task(lambda outputs, labels: outputs.mean()), outputs, labels)


@pytest.mark.parametrize(
    ("said", "outputs"),
    [("probabilities", scores(6, 3)), ("logits", scores(6)), ("classes", scores(6, 3))],
)
def test_outputs_that_are_not_what_the_task_says_are_refused(said: str, outputs: Tensor) -> None:
    with pytest.raises(UsageError, match="outputs"):
        read_batch(task(cross_entropy(), outputs=said), outputs, numbers(3, 6))


def test_a_class_number_beyond_the_scores_is_refused_where_the_task_says_logits() -> None:
    with pytest.raises(DataError, match="label 3: outputs are logits of 3 classes"):
        read_batch(task(cross_entropy(), outputs="logits"), scores(4, 3), torch.arange(4))


def test_one_output_beside_integer_labels_is_no_score_of_classes() -> None:
    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs.squeeze(1), labels.float())

    assert read_batch(task(loss), scores(8, 1), numbers(2, 8)).outputs == "other"


def found(outputs: Tensor, labels: Tensor, loss: Any, metrics: dict[str, Any]) -> list[str]:
    asked = task(loss, metrics)
    reading = read_batch(asked, outputs, labels)
    return misfits(reading.apply(asked), reading, outputs, labels)


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("labels", [scores(6), numbers(9, 6), scores(1, 6)])
def test_losses_and_metrics_over_all_pairs_are_found(labels: Tensor) -> None:
    def error(outputs: np.ndarray, labels: np.ndarray) -> float:
        return float(np.abs(outputs - labels).mean())

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.mse_loss(outputs, labels.float())

    labels = labels if labels.ndim == 1 else labels.T.squeeze(1)
    told = found(scores(6, 1), labels, loss, {"error": error})
    assert len(told) == 1 and "(6, 6) in the loss and error" in told[0]
    assert found(scores(6), labels, loss, {"error": error}) == []
    one_shape = found(scores(6, 1), labels[:, None], loss, {"error": error})
    assert one_shape == []


def test_a_metric_that_counts_padding_is_found() -> None:
    def all_rows(outputs: np.ndarray, labels: np.ndarray) -> float:
        return float(np.mean(outputs.argmax(1) == np.maximum(labels, 0)))

    def rows_that_count(outputs: np.ndarray, labels: np.ndarray) -> float:
        return float(np.mean((outputs.argmax(1) == labels)[labels >= 0]))

    labels = numbers(5, 4, 7)
    labels[:, 4:] = -1
    outputs = scores(28, 5)
    outputs[:, 0] += 5 * (torch.arange(28) % 2)  # some of the padding is answered by class 0
    told = found(outputs, labels, masked, {"all": all_rows, "some": rows_that_count})
    assert len(told) == 1 and "the loss ignores are counted by all:" in told[0]


def test_asking_a_loss_draws_no_random_numbers_and_tracks_no_gradient() -> None:
    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        noisy = outputs + torch.rand_like(outputs) + float(np.random.rand())
        return F.cross_entropy(noisy, labels)

    torch_before, numpy_before = torch.get_rng_state(), str(np.random.get_state())
    read_batch(task(loss), scores(6, 3).requires_grad_(), numbers(3, 6))
    assert torch.equal(torch_before, torch.get_rng_state())
    assert numpy_before == str(np.random.get_state())


def test_the_default_collect_does_not_depend_on_other_examples() -> None:
    outputs, labels = scores(3, 3), numbers(2, 3, 3)  # multi-label: as many labels as outputs
    kept, known = default_collect(outputs, labels)
    assert kept.shape == known.shape == (3, 3)


WEIGHTS = torch.tensor([1.0, 5.0, 0.2])


@pytest.mark.parametrize(
    ("loss", "weight", "fits"),
    [
        (cross_entropy(), None, True),
        (lambda x, y: F.cross_entropy(x, y, weight=WEIGHTS), None, False),
        (lambda x, y: F.cross_entropy(x, y, weight=WEIGHTS), lambda x, y: WEIGHTS[y].sum(), True),
        (lambda x, y: F.cross_entropy(x, y, reduction="sum"), None, False),
        (spread, None, False),
        (lambda x, y: F.cross_entropy(x, y) + torch.rand(()), None, True),  # cannot be told
    ],
)
def test_a_loss_that_is_no_mean_of_the_terms_that_count_is_found(
    loss: Any, weight: Any, fits: bool
) -> None:
    more = {} if weight is None else {"loss_weight": weight}
    asked, outputs, labels = task(loss, **more), scores(12, 3), torch.arange(12) % 3
    reading = read_batch(asked, outputs, labels)
    told = misfits(reading.apply(asked), reading, outputs, labels)
    assert (told == []) == fits
    assert fits or "the mean" in told[0] or told == [CONTRAST]


def test_rounding_to_16_bits_is_no_misfit() -> None:
    outputs, labels = scores(12, 3).bfloat16(), torch.arange(12) % 3
    reading = read_batch(task(cross_entropy()), outputs, labels)
    assert misfits(task(cross_entropy()), reading, outputs, labels) == []


def test_padding_may_be_class_0() -> None:
    labels = numbers(4, 6, 9)
    labels[:, 5:] = 0

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), ignore_index=0)

    reading = read_batch(task(loss), scores(6, 9, 4), labels)
    assert (reading.outputs, reading.ignored) == ("logits", (0,))
    assert reading.apply(task(loss)).loss_weight(None, labels) == (labels != 0).sum()


def test_the_axis_of_classes_is_found_in_sequences_of_one_token() -> None:
    outputs, labels = scores(8, 5, 1), numbers(5, 8, 1)
    reading = read_batch(task(cross_entropy()), outputs, labels)
    assert (reading.outputs, reading.class_axis, reading.num_classes) == ("logits", 1, 5)


def test_class_weights_are_found_where_tokens_are_merged() -> None:
    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs, labels.flatten(), weight=WEIGHTS)

    outputs, labels = scores(6 * 4, 3), numbers(3, 6, 4)
    reading = read_batch(task(loss), outputs, labels)
    told = misfits(reading.apply(task(loss)), reading, outputs, labels)
    assert len(told) == 1 and "is not the mean of its examples' losses" in told[0]


def test_a_sum_without_labels_is_found() -> None:
    def distance(outputs: tuple[Tensor, Tensor], labels: None) -> Tensor:
        return (outputs[0] - outputs[1]).square().sum()

    asked, outputs = task(distance, labelled=False), (scores(6, 3), scores(6, 3))
    reading = read_batch(asked, outputs, None)
    assert "is the sum of its examples" in misfits(reading.apply(asked), reading, outputs, None)[0]


@pytest.mark.parametrize("reduce", [lambda x: x, lambda x: {"loss": x.mean(), "part": 1.0}])
def test_a_loss_that_is_no_single_tensor_is_told_in_words(reduce: Any) -> None:
    def loss(outputs: Tensor, labels: Tensor) -> Any:
        return reduce(F.cross_entropy(outputs, labels, reduction="none"))

    with pytest.raises(UsageError, match=r"loss_fn: want a tensor \(\)"):
        task(loss).losses(scores(4, 3), numbers(3, 4))
