"""The CIFAR-10 data set: what data/cifar10/prepare.py fetches, copies, draws and refuses."""

import contextlib
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from data.cifar10.draw import SHAPES, draw
from data.cifar10.prepare import FILES, FOLDER, NAMES_FILE, RECORD, main
from model.cifar10.data_loader import read_records
from tests.helpers.preparing import croissant, hashes, prepare_with

NAMES = [*FILES, NAMES_FILE]
prepare = partial(prepare_with, main)


def contents(folder: Path) -> dict[str, str]:
    """Return hashes of the data files of a folder."""
    found = hashes(folder)
    return {name: found[name] for name in NAMES}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of the binary version: 60 records in six files."""
    folder = tmp_path / "source" / FOLDER
    folder.mkdir(parents=True)
    for number, name in enumerate(FILES):
        records = np.random.default_rng(number).integers(0, 256, (10, RECORD), np.uint8)
        records[:, 0] = range(10)
        records.tofile(folder / name)
    (folder / NAMES_FILE).write_text("\n".join("abcdefghij") + "\n\n")
    return folder


def pack(source: Path, path: Path, **more: bytes) -> Path:
    """Pack a folder as the official archive is packed, with more files by their names in it."""
    with tarfile.open(path, "w:gz") as tar:
        tar.add(source, FOLDER)
        for name, data in more.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on the loopback interface."""
    handler = partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


# --- what there is already


def test_a_folder_or_the_folder_around_it_or_an_archive_gives_the_same_data(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = pack(source, tmp_path / "archive.tar.gz")
    for name, origin in (("a", source), ("b", source.parent), ("c", archive)):
        assert prepare(tmp_path / name, "--source", origin) == 0
        assert contents(tmp_path / name) == contents(source)
        assert sorted(os.listdir(tmp_path / name)) == sorted(
            [*NAMES, "manifest.json", "croissant.json"]
        )
        assert "wrote 60 images (50 for training and validation, 10" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "c/manifest.json").read_text())
    assert manifest["generated"] is False
    assert manifest["seed"] is None
    assert manifest["files"] == contents(source)


def test_no_name_in_an_archive_is_used_as_a_path(source: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    names = ["../../outside", str(tmp_path / "absolute"), f"{FOLDER}/../../up", f"{FOLDER}/more"]
    archive = pack(source, tmp_path / "a.tar.gz", **dict.fromkeys(names, b"x"))
    assert prepare(tmp_path / "deep/out", "--source", archive) == 0
    assert os.listdir(tmp_path / "deep") == ["out"]
    assert sorted(os.listdir(tmp_path / "deep/out")) == sorted(
        [*NAMES, "manifest.json", "croissant.json"]
    )
    assert sorted(os.listdir(tmp_path)) == ["a.tar.gz", "deep", "source"]


@pytest.mark.parametrize("fault", ["link", "absent", "cut", "no archive", "length", "label"])
def test_data_that_are_not_whole_are_refused_and_nothing_is_written(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    archive, broken = tmp_path / "a.tar.gz", source / "data_batch_4.bin"
    if fault == "link":
        (tmp_path / "secret").write_bytes(broken.read_bytes())
        broken.unlink()
        broken.symlink_to(tmp_path / "secret")
    elif fault == "absent":
        broken.unlink()
    elif fault == "length":
        broken.write_bytes(broken.read_bytes()[:-1])
    elif fault == "label":
        broken.write_bytes(b"\x0a" + broken.read_bytes()[1:])
    pack(source, archive)
    if fault == "cut":
        archive.write_bytes(archive.read_bytes()[:50_000])
    elif fault == "no archive":
        archive.write_text("<html>not found</html>")
    assert prepare(tmp_path / "out", "--source", archive) == 1
    message = capsys.readouterr().err
    said = {
        "link": f"a.tar.gz: holds no file {FOLDER}/data_batch_4.bin",
        "absent": f"a.tar.gz: holds no file {FOLDER}/data_batch_4.bin",
        "cut": "a.tar.gz: not a whole tar archive",
        "no archive": "a.tar.gz: not a whole tar archive",
        "length": f"data_batch_4.bin: {10 * RECORD - 1} bytes, want a multiple of 3073",
        "label": "data_batch_4.bin: labels above 9",
    }
    assert said[fault] in message
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_file_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "test_batch.bin").unlink()
    assert prepare(tmp_path / "out", "--source", source) == 1
    assert f"{source / 'test_batch.bin'}: no such file" in capsys.readouterr().err
    assert prepare(source.parent, "--source", source) == 2
    assert "overlap" in capsys.readouterr().err


# --- fetched


def test_an_archive_is_fetched_checked_and_unpacked(source: Path, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    archive = pack(source, tmp_path / "web/cifar.tar.gz")
    with served(tmp_path / "web") as address:
        url = f"{address}/cifar.tar.gz"
        code = prepare(tmp_path / "out", "--download", "--url", url, "--md5", md5(archive))
    assert code == 0
    assert contents(tmp_path / "out") == contents(source)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["description"] == f"CIFAR-10 (Krizhevsky 2009), binary version, from {url}"
    assert manifest["generated"] is False


def test_an_archive_of_another_md5_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "web").mkdir()
    archive = pack(source, tmp_path / "web/cifar.tar.gz")
    with served(tmp_path / "web") as address:
        assert prepare(tmp_path / "out", "--download", "--url", f"{address}/cifar.tar.gz") == 1
    message = capsys.readouterr().err
    assert md5(archive) in message
    assert "want c32a1d4ab5d03f1284b67883e8d87530" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("url", ["{address}/absent", "http://127.0.0.1:1/x", "nonsense"])
def test_a_download_that_fails_names_the_address_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    (tmp_path / "web").mkdir()
    with served(tmp_path / "web") as address:
        url = url.format(address=address)
        assert prepare(tmp_path / "out", "--download", "--url", url) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: {url}: ")
    assert "--source" in message
    assert os.listdir(tmp_path) == ["web"]


@pytest.mark.parametrize(
    "options",
    [
        ["--source", "no/such/folder"],
        ["--source", ".", "--download"],
        ["--seed", "-1"],
        ["--count", "61"],
        ["--count", "0"],
        ["--count", "60", "--download"],
        ["--url", "http://127.0.0.1/"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert prepare(tmp_path / "out", *options) == 2
    assert options[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- drawn


def test_a_seed_decides_the_drawn_shapes_and_the_manifest_says_that_they_are(
    tmp_path: Path,
) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        assert prepare(tmp_path / name, "--count", 120, "--seed", seed) == 0
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    drawn = [read_records(tmp_path / name / FILES[0])[:, 1:].tobytes() for name in "ac"]
    assert drawn[0] != drawn[1]
    for name in FILES:
        labels = read_records(tmp_path / "a" / name)[:, 0].tolist()
        assert Counter(labels) == dict.fromkeys(range(10), 2)
        assert labels != sorted(labels)
    assert (tmp_path / "a" / NAMES_FILE).read_text().split() == SHAPES
    manifest = json.loads((tmp_path / "a/manifest.json").read_text())
    assert (manifest["generated"], manifest["files"]) == (True, contents(tmp_path / "a"))
    said = "shapes drawn by data/cifar10/prepare.py, seed 7: not CIFAR-10"
    assert manifest["description"] == said
    assert len({draw(3, 230, index).tobytes() for index in range(5)}) == 5


def test_a_linear_classifier_of_the_pixels_finds_less_than_half(tmp_path: Path) -> None:
    assert prepare(tmp_path / "out", "--count", 3000) == 0
    data = [np.array(read_records(tmp_path / "out" / name)) for name in FILES]
    train, test = torch.from_numpy(np.concatenate(data[:-1])), torch.from_numpy(data[-1])
    x, y = train[:, 1:].float() / 255 - 0.5, torch.eye(10)[train[:, 0].long()] - 0.1
    weights = torch.linalg.solve(x.T @ x + 300 * torch.eye(x.shape[1]), x.T @ y)
    right = ((test[:, 1:].float() / 255 - 0.5) @ weights).argmax(dim=1) == test[:, 0]
    assert 0.2 < right.float().mean().item() < 0.5


def test_croissant_json_tells_of_the_records_and_the_classes(tmp_path: Path) -> None:
    assert prepare(tmp_path / "out", "--count", 60) == 0
    found = croissant(tmp_path / "out")
    assert found["files"] == {*NAMES, "manifest.json"}
    assert found["fields"]["test_batch"] == ["records"]
    assert found["fields"]["classes"] == ["class"]
