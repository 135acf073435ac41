"""One rule says what a word is: in prepare, in the loader and in predict."""

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from core.base.errors import DataError
from core.base.params import Params
from core.predict.answers import answer
from core.reading.outputs import Reading
from data.ner.prepare import main as prepare
from model.ner.data_loader import read_inputs
from model.ner.reading import Sentence, read_split, split_words

PARAMS = Params.of({"vocabulary": [["a", "b"]], "affix_length": 0}, "test")
ODD = ["New\u00a0York", "c\u2028d", "e\u0085f", "\u3000", "g\u000bh", "\ufb01"]


def predicted(*sources: str | Path) -> list[list[str]]:
    """Return the words that predict.py shows of every line."""
    found = []
    for name, inputs in read_inputs([str(source) for source in sources], PARAMS):
        scores = torch.zeros(len(inputs), 2)
        found.append(answer(name, scores, Reading(outputs="logits"), ["O", "B-geo"], 1)["words"])
    return found


def splits(folder: Path) -> Iterator[Sentence]:
    for split in ("train", "val", "test"):
        yield from read_split(folder, split)


def test_odd_spaces_are_part_of_a_word_in_prepare_loader_and_predict(tmp_path: Path) -> None:
    rows = "".join(f"{word}\tO\n" for word in ODD) + "\n"
    (tmp_path / "all.conll").write_text(rows * 20, encoding="utf-8")
    argv = ["--source", str(tmp_path / "all.conll"), "--output", str(tmp_path / "out")]
    assert prepare(argv) == 0
    assert all(sentence.words == ODD for sentence in splits(tmp_path / "out"))
    assert predicted(tmp_path / "out" / "test" / "sentences.txt") == [ODD] * 3


def test_a_column_with_spaces_is_one_word_and_one_tag_in_both_layouts(tmp_path: Path) -> None:
    rows = "New York\tB-big city\nis\tO\n\n"
    (tmp_path / "in").mkdir()
    for split in ("train", "val", "test"):
        (tmp_path / "in" / f"{split}.conll").write_text(rows)
    argv = ["--source", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert prepare(argv) == 0
    for folder in (tmp_path / "in", tmp_path / "out"):
        for sentence in splits(folder):
            assert sentence[:2] == (["New_York", "is"], ["B-big_city", "O"])
    assert predicted(tmp_path / "in" / "test.conll") == [["New_York", "is"]]


def test_a_tab_separates_words_in_predict_and_is_refused_in_the_data(tmp_path: Path) -> None:
    assert split_words(" a\tb  c\u00a0d ") == ["a", "b", "c\u00a0d"]
    (tmp_path / "text").write_text("a\tb  c\n")
    assert predicted(tmp_path / "text") == [["a", "b", "c"]]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "sentences.txt").write_text("a\tb\n")
    (tmp_path / "train" / "labels.txt").write_text("O O\n")
    with pytest.raises(DataError, match=r"sentences.txt, line 1: .* a tab"):
        read_split(tmp_path, "train")


def test_a_byte_order_mark_is_no_word_in_a_file_or_on_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "\ufeffa b\r\n\ufeffb\n".encode()  # two files with marks, joined
    (tmp_path / "text").write_bytes(content)
    latin = io.TextIOWrapper(io.BytesIO(content), encoding="latin-1")
    monkeypatch.setattr("sys.stdin", latin)
    assert predicted("-", tmp_path / "text") == [["a", "b"], ["b"]] * 2


def test_standard_input_that_is_not_utf8_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a\ncaf\xe9\n")))
    with pytest.raises(DataError, match="standard input, line 2: not UTF-8"):
        predicted("-")


def test_conll_columns_given_to_predict_are_read_as_such_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "eng.testb").write_text("-DOCSTART- O\n\na NN B-geo\nb VB O\n\nb NN O\n")
    assert predicted(tmp_path / "eng.testb") == [["a", "b"], ["b"]]
    assert "eng.testb: read as CoNLL columns" in caplog.text


@pytest.mark.parametrize(
    ("name", "text"), [("a.conllu", "# text = a b\n1\ta\t_\n2\tb\t_\n"), ("a", "a S-geo\nb O\n")]
)
def test_columns_without_such_tags_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="want O, B-type or I-type"):
        predicted(tmp_path / name)


def test_sentences_that_end_with_a_letter_stay_sentences(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("blood of type O\nand of type B\n")
    assert predicted(tmp_path / "text") == [
        ["blood", "of", "type", "O"],
        ["and", "of", "type", "B"],
    ]
