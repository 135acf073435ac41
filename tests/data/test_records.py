"""Records in shards: what is read, in which order, by how many processes, and what is refused."""

import logging
import multiprocessing
import os
import re
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from core.data import records as records_module
from core.data.fetching import exact
from core.data.records_index import open_index
from tests.data.conftest import COUNT, archive, key
from tests.projects.shards.data_loader import decode, decode_with_noise, transform, write
from utils import Records


def keys(loader: Any, epoch: int = 0, start: int = 0) -> list[Any]:
    return [[*batch] for batch in loader.epoch(epoch, start)]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_is_read_as_tarfile_reads_it(tmp_path: Path, form: int) -> None:
    rng = np.random.default_rng(1)
    names = ["a.seg.png", "a.cls", "b/c.seg.png", "b/c.cls", "./d.seg.png", "./d.cls"]
    names += [f"{'long/' * 20}{'e' * 80}.seg.png", f"{'long/' * 20}{'e' * 80}.cls"]
    names += [] if form == tarfile.USTAR_FORMAT else [f"{'ü' * 150}.seg.png", f"{'ü' * 150}.cls"]
    content = [b"7" if n.endswith("cls") else rng.bytes(700 + i) for i, n in enumerate(names)]
    path = archive(
        tmp_path / "x.tar", ("readme", b"no record"), *zip(names, content, strict=True), form=form
    )
    with tarfile.open(path, "a") as made:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        made.addfile(folder)
    found: dict[str, bytes] = {}
    for record in map(Records(path).record, range(len(names) // 2)):
        assert record.pop("label") == 7
        name = record.pop("key")
        found |= {f"{name}.{part}": value for part, value in record.items()}
    assert found == dict(zip(names, content, strict=True))


def test_pairs_of_arrays_are_read_row_by_row(tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float32)
    labels = np.arange(7, dtype=np.uint8)
    for name, part in (("a", slice(0, 4)), ("b", slice(4, 7))):
        np.save(tmp_path / f"{name}.npy", inputs[part])
        np.save(tmp_path / f"{name}.labels.npy", labels[part])
    records = Records(tmp_path)
    assert [*records.filenames] == ["a/0", "a/1", "a/2", "a/3", "b/0", "b/1", "b/2"]
    assert torch.equal(records.labels, torch.arange(7))  # type: ignore[arg-type]
    for i in range(7):
        assert np.array_equal(records[i]["inputs"], inputs[i])
        assert records[i]["label"] == i


def test_arrays_of_another_byte_order_are_read_as_torch_wants_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4, dtype=">f4").reshape(2, 2))
    np.save(tmp_path / "a.labels.npy", np.arange(2, dtype=">f8") / 2)
    np.save(tmp_path / "b.npy", np.arange(4, 6, dtype=np.float32).reshape(1, 2))
    np.save(tmp_path / "b.labels.npy", [1])
    (batch,) = DataLoader(Records(tmp_path, window=1), 3)
    assert torch.equal(batch["inputs"], torch.arange(6.0).view(3, 2))
    assert torch.equal(batch["label"], torch.tensor([0, 0.5, 1], dtype=torch.float64))
    assert Records(tmp_path).labels is None


def test_rows_of_parquet_files_are_read_by_row_group(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"text": [f"t{i}" for i in range(20)], "label": range(20)})
    for name, part in (("a", table[:11]), ("b", table[11:])):
        parquet.write_table(part, tmp_path / f"{name}.parquet", row_group_size=4)
    records = Records(tmp_path, window=2)
    assert [records[i]["text"] for i in range(20)] == [f"t{i}" for i in range(20)]
    assert torch.equal(records.labels, torch.arange(20))  # type: ignore[arg-type]
    assert records.starts.tolist() == [0, 4, 8, 11, 15, 19]
    assert "a row group for each record: set a window" in Records(tmp_path).order_told(2)
    table = pyarrow.table({"text": ["x", None], "label": [1, None]})
    parquet.write_table(table, tmp_path / "c.parquet")
    records = Records(tmp_path, window=2)
    assert records[21] == {"key": "1", "text": None, "label": None}
    assert records.labels is None


@pytest.mark.parametrize("window", [0, 2])
def test_any_number_of_workers_reads_the_same_order_from_any_batch_on(
    folder: Path, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "BLOCK", 6000)
    found = []
    warnings.filterwarnings("ignore", "This DataLoader will create 3 worker")
    for workers in (0, 2, 3):
        own = Records(folder, decode_with_noise, transform=transform, window=window)
        loader = exact(DataLoader(own, 7, shuffle=True, num_workers=workers), 5, train=True)
        epochs = [[(x.tolist(), y.tolist()) for x, y in loader.epoch(e)] for e in (0, 1)]
        found.append(epochs)
        middle = [(x.tolist(), y.tolist()) for x, y in loader.epoch(1, 3)]
        assert middle == epochs[1][3:]
    assert found[0] == found[1] == found[2]
    assert found[0][0] != found[0][1]


@pytest.mark.parametrize("window", [1, 3, 100])
def test_windows_of_blocks_are_shuffled_and_each_record_comes_once_an_epoch(
    tmp_path: Path, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "BLOCK", 20 * (512 * 2 + 1024))
    own = Records(write(tmp_path, {"train": 1203}) / "train", window=window)
    size = int(own.starts[1])
    orders = [own.epoch_order(3, epoch) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(1203))
        blocks, place = torch.div(order, size, rounding_mode="floor"), 0
        lengths = torch.diff(own.starts, append=torch.tensor([1203]))
        seen = set[int]()
        while place < len(order):  # a window holds whole blocks, and no record of others
            here = [*dict.fromkeys(blocks[place : place + size * window].tolist())]
            chosen = set(here) if place + size * window >= len(order) else set(here[:window])
            count = int(lengths[sorted(chosen)].sum())
            assert set(blocks[place : place + count].tolist()) == chosen
            assert len(chosen) <= window
            assert not chosen & seen
            seen |= chosen
            place += count
    assert not torch.equal(*orders)
    assert torch.equal(own.epoch_order(3, 1), orders[1])


def test_the_log_tells_how_far_windows_are_from_a_full_shuffle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "BLOCK", 16 * (512 * 2 + 1024))
    own = Records(write(tmp_path, {"train": 2000}) / "train", window=4)
    loader = exact(DataLoader(own, 32, shuffle=True), 1, train=True)
    size = int(own.starts[1])

    def blocks(order: torch.Tensor) -> float:
        """Return from how many blocks a batch comes on average."""
        parts = [len({i // size for i in part.tolist()}) for part in order.split(32)[:-1]]
        return float(np.mean(parts))

    told = re.fullmatch(
        r"shuffled every epoch in windows of 4 of (\d+) blocks: a batch comes from (\d+) blocks, "
        r"of a full shuffle from (\d+) \(seed 1\)",
        loader.kind,
    )
    assert told is not None
    count, ours, full = map(int, told.groups())
    assert count == len(own.starts)
    assert ours == pytest.approx(blocks(own.epoch_order(1, 0)), abs=1)
    assert full == pytest.approx(blocks(Records(own.path).epoch_order(1, 0)), abs=1)
    assert exact(DataLoader(own, 32), 1).kind == "in order"


def test_a_part_of_the_records_is_shuffled_in_the_windows_of_the_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "BLOCK", 6000)
    own = Records(folder, key, window=2)
    numbers = [*range(0, COUNT, 3)]
    loader = exact(DataLoader(Subset(own, numbers), 4, shuffle=True), 5, train=True)
    order = [i for i in own.epoch_order(5, 2).tolist() if i in numbers]
    assert [k for batch in keys(loader, 2) for k in batch] == [own[i] for i in order]


def test_examples_that_a_part_has_twice_come_twice(folder: Path) -> None:
    loader = exact(DataLoader(Subset(Records(folder, key), [3, 0, 3]), 1, shuffle=True), 5, True)
    assert sorted(k for batch in keys(loader) for k in batch) == [
        "train/0000",
        "train/0003",
        "train/0003",
    ]


def test_evaluation_reads_each_record_once_in_order_and_knows_names_and_labels(
    folder: Path,
) -> None:
    loader = exact(DataLoader(Records(folder, decode, transform=transform), 8, num_workers=2), 0)
    batches = [*loader.epoch(0)]
    labels = torch.cat([labels for _, labels in batches])
    assert torch.equal(labels, torch.arange(COUNT) % 3)
    assert torch.equal(loader.labels, labels)
    assert loader.ids[:2] == ["00/train/0000", "00/train/0001"]  # type: ignore[index]
    assert batches[0][0].dtype == torch.float32
    assert torch.equal(loader.first_batch()[0], batches[0][0])


def test_an_index_is_kept_until_a_shard_changes(folder: Path) -> None:
    Records(folder)
    (index,) = (folder / ".cache").iterdir()
    before = index.stat().st_mtime_ns
    assert len(Records(folder)) == COUNT
    assert index.stat().st_mtime_ns == before
    archive(folder / "03.tar", ("new.bin", bytes(64)), ("new.cls", b"1"))
    assert len(Records(folder)) == COUNT + 1
    (folder / "03.tar").unlink()
    assert len(Records(folder)) == COUNT
    index.write_bytes(index.read_bytes()[:-300])  # damaged
    assert len(Records(folder)) == COUNT


def test_an_index_that_can_be_written_nowhere_is_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / ".cache"))
    assert Records(folder, key)[COUNT - 1] == f"train/{COUNT - 1:04d}"


def test_processes_that_build_the_index_at_once_get_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.data.records_index.MANY", 0)  # workers may not start workers
    with multiprocessing.get_context("fork").Pool(4) as pool:
        digests = pool.map(index_digest, [folder] * 8)
    assert len({*digests}) == 1
    assert len([*(folder / ".cache").iterdir()]) == 1


def index_digest(folder: Path) -> str:
    return open_index(folder).digest()


def test_many_shards_are_read_with_few_files_open(tmp_path: Path) -> None:
    for i in range(300):
        archive(tmp_path / f"{i:03d}.tar", ("a.bin", b"x"))
    records = Records(tmp_path)
    assert [records[i]["bin"] for i in range(300)] == [b"x"] * 300
    descriptors = [Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    opened = [os.readlink(link) for link in descriptors if link.is_symlink()]
    assert sum(Path(name).parent == tmp_path for name in opened) == records_module.OPEN


def test_building_an_index_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        open_index(folder)
    assert caplog.text.count(f"{folder}: building the index of 3 shards") == 1
