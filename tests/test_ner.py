"""The named-entities task: reading tagged sentences, the tagger, and scores of whole entities."""

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score, precision_score, recall_score

import evaluate
import train
from data.ner.sentences import make_sentences
from model.ner.data_loader import UNKNOWN, fetch_dataloader, word_features
from model.ner.net import Net, class_names, entity_scores, find_entities, loss_fn
from model.ner.reading import read_split
from tests.conftest import ROOT, Folder, rows
from tests.warm import Warm
from utils import DataError, Params

TINY = {
    "task": "model.ner",
    "monitor": "f1",
    "learning_rate": 0.02,
    "min_count": 2,
    "affix_length": 2,
    "embedding_dim": 8,
    "feature_dim": 4,
    "lstm_hidden_dim": 8,
    "num_layers": 1,
    "bidirectional": True,
}
Tagged = tuple[Sequence[str], Sequence[str]]


def write_split(folder: Path, split: str, sentences: Sequence[Tagged]) -> None:
    """Write words and tags of a split as sentences.txt and labels.txt."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(("sentences.txt", "labels.txt")):
        lines = "".join(f"{' '.join(sentence[i])}\n" for sentence in sentences)
        (folder / split / name).write_text(lines, encoding="utf-8")


def tagged(*texts: str) -> list[Tagged]:
    """Turn texts such as "Ann/B-per sings/O" into words and tags."""
    pairs = [[word.rpartition("/") for word in text.split()] for text in texts]
    return [([p[0] for p in sentence], [p[2] for p in sentence]) for sentence in pairs]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 150, 41 and 40 made-up sentences."""
    folder, sentences = tmp_path_factory.mktemp("ner"), list(make_sentences(231, seed=1))
    write_split(folder, "train", sentences[:150])
    write_split(folder, "val", sentences[150:191])
    write_split(folder, "test", sentences[191:])
    return folder


def params(**values: Any) -> Params:
    return Params.of({"batch_size": 16, "seed": 1, "dropout_rate": 0.0} | TINY | values, "p.json")


def run(folder: Path, data: Path, *more: str) -> int:
    return train.main(["--model_dir", str(folder), "--data_dir", str(data), *more])


def score(folder: Path, data: Path, *more: str, split: str = "test") -> dict[str, float]:
    """Evaluate a run's best checkpoint."""
    argv = ["--model_dir", str(folder), "--data_dir", str(data), "--split", split, *more]
    assert evaluate.main(argv) == 0
    result: dict[str, float] = json.loads((folder / f"metrics_{split}_best.json").read_text())
    return result


# --- scores of entities


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


# --- the net


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_padding_changes_nothing(data: Path, bidirectional: bool, num_layers: int) -> None:
    settings = params(bidirectional=bidirectional, num_layers=num_layers)
    loader = fetch_dataloader(["val"], str(data), settings)["val"]
    torch.manual_seed(0)
    net = Net(settings).eval()
    with torch.no_grad():
        together = net(loader.inputs)
        for i in range(0, loader.num_examples, 5):
            length = int((loader.labels[i] >= 0).sum())
            alone = net(loader.inputs[i : i + 1, :length])
            assert torch.allclose(alone[0], together[i, :length], atol=1e-6)


def test_a_word_is_judged_by_what_stands_before_and_behind_it(data: Path) -> None:
    for bidirectional in (True, False):
        settings = params(bidirectional=bidirectional, num_layers=2)
        inputs = fetch_dataloader(["val"], str(data), settings)["val"].inputs[:1, :6]
        net = Net(settings).eval()
        with torch.no_grad():
            before = net(inputs)
            changed = inputs.clone()
            changed[:, 3] = UNKNOWN
            moved = (net(changed) - before).abs().sum(dim=2)[0] > 0
        assert moved.tolist() == [bidirectional] * 3 + [True] * 3


def test_the_loss_is_the_mean_over_the_words(data: Path) -> None:
    settings = params()
    loader = fetch_dataloader(["val"], str(data), settings)["val"]
    outputs = torch.randn(*loader.labels.shape, len(class_names(settings)))
    words = loader.labels >= 0
    picked = outputs.log_softmax(2)[words].gather(1, loader.labels[words].unsqueeze(1))
    assert loss_fn(outputs, loader.labels).item() == pytest.approx(-picked.mean().item(), rel=1e-5)


# --- the loader


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_every_sentence_comes_once_whatever_the_batch_size(data: Path, batch_size: int) -> None:
    settings = params(batch_size=batch_size)
    loaders = fetch_dataloader(["train", "val"], str(data), settings)
    for loader in loaders.values():
        expected = Counter(
            tuple(row[tags >= 0].flatten().tolist())
            for row, tags in zip(loader.inputs, loader.labels, strict=True)
        )
        found: Counter[tuple[int, ...]] = Counter()
        for inputs, labels in loader.epoch(2):
            assert (labels[:, -1] == -1).all()  # every row ends with an ignored token
            assert ((inputs[..., 0] == 0) == (labels == -1)).all()
            for row, tags in zip(inputs, labels, strict=True):
                found[tuple(row[tags >= 0].flatten().tolist())] += 1
        assert found == expected


def test_both_layouts_give_the_same_batches(data: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        lines = ["-DOCSTART- -X- O", ""]
        for sentence in read_split(data, split):
            pairs = zip(sentence.words, sentence.tags, strict=True)
            lines += [f"{word} NN x {tag}" for word, tag in pairs] + ["", ""]
        (tmp_path / f"{split}.conll").write_text("\r\n".join(lines), encoding="utf-8")
    ours, theirs = (fetch_dataloader(["train", "val"], str(d), params()) for d in (tmp_path, data))
    for split in ("train", "val"):
        assert torch.equal(ours[split].inputs, theirs[split].inputs)
        assert torch.equal(ours[split].labels, theirs[split].labels)


def test_odd_spaces_inside_of_words_do_not_cut_them(tmp_path: Path) -> None:
    words = ["a\u00a0b", "c\u2028d", "e\u0085f", "\u3000", "g\u000bh"]
    write_split(tmp_path, "train", [(words, ["O"] * 5)])
    (tmp_path / "val.conll").write_text("".join(f"{word}\tO\n" for word in words), "utf-8")
    for split in ("train", "val"):
        assert [sentence.words for sentence in read_split(tmp_path, split)] == [words]


def test_rare_words_are_unknown_and_keep_their_spelling(tmp_path: Path) -> None:
    texts = ["Ann/B-per sings/O", "Ann/B-per hums/O", "Anna/B-per sings/O"]
    for split in ("train", "val"):
        write_split(tmp_path, split, tagged(*texts))
    settings = params(min_count=2)
    inputs = fetch_dataloader(["train"], str(tmp_path), settings)["train"].inputs
    assert settings.vocabulary[0] == ["ann", "sings"]
    assert inputs[:, :2, 0].tolist() == [[2, 3], [2, UNKNOWN], [UNKNOWN, 3]]
    first_letters = inputs[:, :2, 2]
    assert first_letters.tolist() == [[2, 3], [2, UNKNOWN], [2, 3]]


def test_the_vocabulary_is_that_of_the_training_split(data: Path) -> None:
    settings = params(min_count=1)
    fetch_dataloader(["val", "test"], str(data), settings)
    words = {word.lower() for sentence in read_split(data, "train") for word in sentence.words}
    assert set(settings.vocabulary[0]) == words


def test_words_have_the_features_of_their_spelling() -> None:
    assert word_features("McDonald-1998", 2) == ["mcdonald-1998", "XxXxxxx-0000", *"M8", "Mc", "98"]
    assert word_features("Ulaanbaatar", 1) == ["ulaanbaatar", "Xxxxx", "U", "r"]
    assert word_features("a", 3) == ["a", "x", "a", "a", "a", "a", "a", "a"]
    assert word_features("Iraq", 0) == ["Iraq"]


def test_a_type_of_another_split_is_a_class_of_its_own(
    run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_split(tmp_path, "train", tagged("Ann/B-per sings/O", "Bob/B-per hums/O"))
    write_split(tmp_path, "val", tagged("Rome/B-geo sings/O", "Ann/B-per hums/O"))
    write_split(tmp_path, "test", tagged("May/B-tim ends/O", "Ann/B-per hums/O"))
    folder = run_folder(**TINY)
    assert run(folder, tmp_path) == 0
    assert "class 1 is in the validation split, but not in training" in capsys.readouterr().err
    assert score(folder, tmp_path)["recall"] <= 0.5
    write_split(tmp_path, "test", tagged("Ann/B-per hums/O", "Ann/B-per hit/O Mars/B-body"))
    argv = ["--model_dir", str(folder), "--data_dir", str(tmp_path)]
    assert evaluate.main(argv) == 1
    message = capsys.readouterr().err
    assert f"{tmp_path}/test/labels.txt, line 2: tag 'B-body'" in message
    assert "geo, per, tim" in message
    for path in (tmp_path / "test").iterdir():
        path.unlink()
    (tmp_path / "test").rmdir()
    (tmp_path / "test.conll").write_text("Ann B-per\n\nhit O\nMars B-body\n")
    assert evaluate.main(argv) == 1
    assert "test.conll, sentence from line 3: tag 'B-body'" in capsys.readouterr().err


# --- faults in files


@pytest.mark.parametrize(
    ("words", "tags", "said"),
    [
        ("a b\nc d\n", "O O\nO\n", r"labels.txt, line 2: 2 words, but 1 tags"),
        ("a b\nc\n", "O O\n", r"sentences.txt has 2 sentences, but .*labels.txt has 1"),
        ("a b\n", "O X\n", r"labels.txt, line 1: tag 'X', want O, B-type or I-type"),
        ("a b\n", "O B-\n", r"line 1: tag 'B-'"),
        ("a  b\n", "O O O\n", r"sentences.txt, line 1: a blank line, or a space too many"),
        ("a\n\nb\n", "O\n\nO\n", r"sentences.txt, line 2: a blank line"),
        ("a b\n", "O O \n", r"labels.txt, line 1: a blank line, or a space too many"),
        ("", "", r"sentences.txt: the file is empty"),
        ("\n \n", "O\n", r"sentences.txt: the file is empty"),
        ("a\n", None, r"labels.txt: no such file"),
        (None, "O\n", r"sentences.txt: no such file"),
    ],
)
def test_faulty_pairs_of_files_are_told_by_file_and_line(
    tmp_path: Path, words: str | None, tags: str | None, said: str
) -> None:
    (tmp_path / "train").mkdir()
    for name, text in (("sentences.txt", words), ("labels.txt", tags)):
        if text is not None:
            (tmp_path / "train" / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_split(tmp_path, "train")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a O\nb\n", r"train.conll, line 2: no tag in a second column"),
        ("a O\n\nb NN B\n", r"train.conll, line 3: tag 'B'"),
        ("a\tO\n\tO\n", r"train.conll, line 2: no word in the first column"),
        ("", r"train.conll: the file is empty"),
        ("-DOCSTART- O\n", r"train.conll: no sentences"),
    ],
)
def test_faulty_columns_are_told_by_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "train.conll").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_split(tmp_path, "train")


def test_of_many_faults_ten_are_listed_and_the_others_counted(tmp_path: Path) -> None:
    write_split(tmp_path, "train", [(["a", "b"], ["O"])] * 13)
    with pytest.raises(DataError) as error:
        read_split(tmp_path, "train")
    message = str(error.value)
    assert "13 faults" in message
    assert "line 10:" in message
    assert "line 11:" not in message
    assert "and 3 more" in message


def test_missing_splits_and_other_encodings_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither train/sentences.txt nor train.conll"):
        fetch_dataloader(["train"], str(tmp_path), params())
    (tmp_path / "train.conll").write_bytes(b"a O\ncaf\xe9 O\n")
    with pytest.raises(DataError, match=r"train.conll, line 2: not UTF-8"):
        fetch_dataloader(["train"], str(tmp_path), params())


# --- runs


def test_a_run_learns_shows_the_trivial_answer_and_lists_no_words(
    run_folder: Folder, data: Path
) -> None:
    folder = run_folder(**TINY, num_epochs=10)
    assert run(folder, data) == 0
    log = (folder / "train.log").read_text()
    assert re.search(r"most frequent class: val accuracy: 0\.\d+, .*f1: 0$", log, re.MULTILINE)
    assert rows(folder)[-1]["val_f1"] > 0.4
    for name in ("train.log", "params.resolved.json"):
        assert "Tarn" not in (text := (folder / name).read_text())
        assert len(text) < 5000


def test_scores_do_not_depend_on_the_batch_size(run_folder: Folder, data: Path) -> None:
    folder = run_folder(**TINY, num_epochs=3)
    assert run(folder, data) == 0
    results = [score(folder, data, "--set", f"batch_size={size}") for size in (1, 7, 64)]
    assert results[0]["f1"] > 0
    for result in results[1:]:
        assert result == pytest.approx(results[0], abs=1e-6)


def test_what_a_checkpoint_predicts_stays_whatever_becomes_of_the_training_data(
    run_folder: Folder, data: Path, tmp_path: Path
) -> None:
    folder, changed = run_folder(**TINY, num_epochs=3), tmp_path / "changed"
    assert run(folder, data) == 0
    before = score(folder, data, "--save_predictions")
    outputs = np.load(folder / "predictions_test.npz")["outputs"]
    write_split(changed, "train", tagged("Other/B-new words/O and/O Types/I-more"))
    write_split(changed, "test", [(s.words, s.tags) for s in read_split(data, "test")])
    assert score(folder, changed, "--save_predictions") == before
    assert np.array_equal(np.load(folder / "predictions_test.npz")["outputs"], outputs)


def test_a_stopped_run_ends_as_if_it_had_not_been(run_folder: Folder, data: Path) -> None:
    recipe = {**TINY, "num_epochs": 4, "lr_scheduler": "OneCycleLR", "checkpoint_minutes": 0}
    whole, stopped = run_folder("whole", **recipe), run_folder("stopped", **recipe)
    warm = Warm()
    try:
        assert start(warm, whole, data) == 0
        assert start(warm, stopped, data, interrupt=True) == 128 + signal.SIGTERM
        assert start(warm, stopped, data) == 0
    finally:
        warm.close()
    for name in ("last.pt", "best.pt", "metrics.jsonl", "predictions_val.npz"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name


def start(warm: Warm, folder: Path, data: Path, interrupt: bool = False) -> int:
    """Run train.py in a process of its own, up to its second checkpoint if it is interrupted."""
    argv: Sequence[str | Path] = ["--model_dir", folder, "--data_dir", data]
    child = warm.start(argv, folder / "printed.txt", slow=0.005 if interrupt else 0)
    end = time.monotonic() + 60
    while interrupt and not (folder / "previous.pt").exists():
        assert time.monotonic() < end, "waited too long"
    if interrupt:
        os.kill(child.pid, signal.SIGTERM)
    return child.wait()


def sentences_of_the_original() -> Iterator[Tagged]:
    """Yield sentences as in the layout that the CS230 template ships."""
    yield from tagged("They/O met/O in/O Hyde/B-geo Park/I-geo ./O", "Mr./B-per Nour/I-per left/O")


def test_the_shipped_recipe_is_read_and_runs(run_folder: Folder, tmp_path: Path) -> None:
    recipe = json.loads((ROOT / "experiments/ner/params.json").read_text())
    for split in ("train", "val"):
        write_split(tmp_path, split, list(sentences_of_the_original()))
    folder = run_folder()
    (folder / "params.json").write_text(json.dumps(recipe | {"num_threads": 1}))
    assert run(folder, tmp_path, "--set", "num_epochs=1") == 0
    assert "nothing in model/ reads" not in (folder / "train.log").read_text()
