"""Taking nested values of a batch apart, example by example."""

import torch

from core.machine.nested import example, num_examples
from core.task import default_loss_weight
from core.training.tally import join

BOXES = [  # of three images: 2, 0 and 1 objects
    {"boxes": torch.ones(2, 4), "labels": torch.tensor([1, 2])},
    {"boxes": torch.ones(0, 4), "labels": torch.tensor([], dtype=torch.long)},
    {"boxes": torch.ones(1, 4), "labels": torch.tensor([3])},
]


def test_a_list_with_one_dict_per_example_has_as_many_examples() -> None:
    assert num_examples(BOXES) == 3
    assert default_loss_weight(None, BOXES) == 3
    assert num_examples([torch.ones(5, 2), torch.ones(5)]) == 5  # structure, as before
    assert num_examples({"image": torch.ones(4, 3), "name": ["a"] * 4}) == 4


def test_an_example_of_a_list_of_dicts_is_one_dict() -> None:
    assert example(BOXES, 2, 3) == [BOXES[2]]
    assert example({"found": BOXES}, 1, 3) == {"found": [BOXES[1]]}


def test_lists_of_dicts_of_several_batches_join_to_one_list() -> None:
    joined = join([BOXES[:2], BOXES[2:]])
    assert [len(each["labels"]) for each in joined] == [2, 0, 1]


def test_dicts_of_other_keys_are_structure() -> None:
    pair = [{"a": torch.ones(6)}, {"b": torch.ones(6)}]  # of 6 examples
    assert num_examples(pair) == 6
    assert [len(part[name]) for part, name in zip(example(pair, 0, 6), "ab", strict=True)] == [1, 1]
