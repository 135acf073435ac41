"""Streams that know where they are: resumed by their own state, where it holds all."""

from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from core.base.errors import UsageError
from core.data.fetching import exact
from core.data.streams import StreamLoader
from tests.conftest import Folder
from tests.helpers.runs import assert_same, run, stop_at
from tests.projects.kinds.data_loader import ByWorker, Stateful
from tests.projects.registry import OWN


def loader(dataset: Any, workers: int = 0) -> StreamLoader:
    made = exact(DataLoader(dataset, 4, num_workers=workers), 3, train=True)
    assert isinstance(made, StreamLoader)
    return made


def values(batches: Any) -> list[Any]:
    return [[part.tolist() for part in batch] for batch in batches]


def resumed(whole: StreamLoader, other: StreamLoader, after: int) -> tuple[list[Any], list[Any]]:
    """Return what is left of an epoch after some batches, and what another loader makes of it."""
    epoch = whole.epoch(2)
    for _ in range(after):
        next(epoch)
    other.begin = whole.state()
    return values(epoch), values(other.epoch(2, after))


def test_a_stream_goes_on_from_its_state_and_reads_nothing_again() -> None:
    whole, again = loader(Stateful(30)), Stateful(30)
    left, found = resumed(whole, loader(again), 3)
    assert found == left
    assert again.read == list(range(12, 30))
    assert "goes on from its own state" in whole.kind
    assert whole.state() is None  # at the end of an epoch
    assert values(whole.epoch(3)) == values(loader(Stateful(30)).epoch(3))


def test_with_workers_a_stream_is_drawn_again() -> None:
    assert "draws again what it has seen" in loader(Stateful(30), workers=1).kind


def test_an_epoch_goes_on_with_the_workers_it_began_with() -> None:
    begun = loader(ByWorker(30), workers=2)
    epoch = begun.epoch(1)
    first = [next(epoch) for _ in range(3)]
    other, same = loader(ByWorker(30), workers=1), loader(ByWorker(30), workers=2)
    other.begin = same.begin = begun.state()
    with pytest.raises(UsageError, match="1 process x 2 workers began this epoch"):
        next(other.epoch(1, 3))
    assert values([*first, *same.epoch(1, 3)]) == values([*first, *epoch])


def test_a_stream_of_hugging_face_goes_on_unless_a_buffer_would_be_lost() -> None:
    datasets = pytest.importorskip("datasets")

    def made(shuffled: bool) -> StreamLoader:
        own = datasets.Dataset.from_dict({"x": list(range(40))}).to_iterable_dataset(num_shards=3)
        own = own.shuffle(seed=1, buffer_size=10) if shuffled else own
        own = own.map(lambda row: {"y": row["x"] + 1}).with_format("torch")
        own.num_examples = 40
        return loader(own)

    left = [batch["y"].tolist() for batch in made(False).epoch(1)]
    first, second = made(False), made(False)
    epoch = first.epoch(1)
    assert [next(epoch)["y"].tolist() for _ in range(4)] == left[:4]
    second.begin = first.state()
    assert [batch["y"].tolist() for batch in second.epoch(1, 4)] == left[4:]
    buffered = made(True)
    assert "draws again" in buffered.kind
    next(buffered.epoch(1))
    assert buffered.state() == {"divided": [1, 0]}


def test_a_run_on_a_stream_that_is_stopped_goes_on_from_its_state(
    run_folder: Folder, no_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = OWN["drawing"].all_params() | {"kind": "stateful", "num_epochs": 2}
    whole, stopped = run_folder("whole", **params), run_folder("stopped", **params)
    assert run(whole, no_data) == 0
    with monkeypatch.context() as context:
        stop_at(context, 4)
        assert run(stopped, no_data) == 128 + 15
    assert run(stopped, no_data) == 0
    assert_same(stopped, whole)
