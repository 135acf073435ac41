"""Reading tagged sentences, and batches of them."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from core.base.errors import DataError
from model.ner.data_loader import UNKNOWN, fetch_dataloader, word_features
from model.ner.reading import read_split
from tests.tasks.ner.helpers import params, tagged, write_split


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_every_sentence_comes_once_whatever_the_batch_size(
    sentences: Path, batch_size: int
) -> None:
    settings = params(batch_size=batch_size)
    loaders = fetch_dataloader(["train", "val"], str(sentences), settings)
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


def test_both_layouts_give_the_same_batches(sentences: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        lines = ["-DOCSTART- -X- O", ""]
        for sentence in read_split(sentences, split):
            pairs = zip(sentence.words, sentence.tags, strict=True)
            lines += [f"{word} NN x {tag}" for word, tag in pairs] + ["", ""]
        (tmp_path / f"{split}.conll").write_text("\r\n".join(lines), encoding="utf-8")
    ours, theirs = (
        fetch_dataloader(["train", "val"], str(d), params()) for d in (tmp_path, sentences)
    )
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


def test_the_vocabulary_is_that_of_the_training_split(sentences: Path) -> None:
    settings = params(min_count=1)
    fetch_dataloader(["val", "test"], str(sentences), settings)
    words = {word.lower() for sentence in read_split(sentences, "train") for word in sentence.words}
    assert set(settings.vocabulary[0]) == words


def test_words_have_the_features_of_their_spelling() -> None:
    assert word_features("McDonald-1998", 2) == ["mcdonald-1998", "XxXxxxx-0000", *"m8", "mc", "98"]
    assert word_features("Ulaanbaatar", 1) == ["ulaanbaatar", "Xxxxx", "u", "r"]
    assert word_features("a", 3) == ["a", "x", "a", "a", "a", "a", "a", "a"]
    assert word_features("Iraq", 0) == ["Iraq"]


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


def test_entities_that_begin_with_i_are_read_as_those_that_begin_with_b(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    texts = {
        "iob1": "Ann/I-per Lee/I-per met/O Bo/I-per Al/B-per in/O Rome/I-loc Kim/I-per",
        "iob2": "Ann/B-per Lee/I-per met/O Bo/B-per Al/B-per in/O Rome/B-loc Kim/B-per",
    }
    labels = []
    for name, text in texts.items():
        for split in ("train", "val"):
            write_split(tmp_path / name, split, tagged(text))
        loaders = fetch_dataloader(["train", "val"], str(tmp_path / name), params(min_count=1))
        labels.append(loaders["train"].labels)
        told = "4 tags: an I that begins an entity is read as B" in caplog.text
        assert told == (name == "iob1")
        caplog.clear()
    assert torch.equal(*labels)
