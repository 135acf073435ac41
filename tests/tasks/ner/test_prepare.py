"""The named-entities data set: what data/ner/prepare.py writes and refuses."""

import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from data.ner.prepare import main
from data.ner.sentences import TAGGED, parse
from model.ner.reading import SPLITS, TAG, read_split
from tests.helpers.preparing import croissant, hashes, prepare_with

HEADER = "Sentence #,Word,POS,Tag"
prepare = partial(prepare_with, main)


def kaggle(path: Path, count: int = 40, encoding: str = "windows-1252", extra: str = "") -> Path:
    """Write a CSV file as Kaggle's: `count` sentences of three words, `extra` in the last."""
    lines = [HEADER]
    for i in range(1, count + 1):
        lines += [f"Sentence: {i},Zoë{i},NNP,B-per", ",“sings”,VBZ,O", ",.,.,O"]
    path.write_text("\r\n".join(lines) + extra, encoding=encoding, newline="")
    return path


def conll(path: Path, words: Sequence[str]) -> Path:
    """Write a CoNLL file, a sentence of two tokens for every word."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{word} NN O\n. . O\n\n" for word in words), encoding="utf-8")
    return path


def sentences(folder: Path, split: str) -> list[str]:
    return [" ".join(sentence.words) for sentence in read_split(folder, split)]


def everything(folder: Path) -> list[str]:
    return [text for split in SPLITS for text in sentences(folder, split)]


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-8", "utf-8-sig"])
def test_the_kaggle_file_is_read_in_its_encodings_to_the_last_sentence(
    tmp_path: Path, encoding: str
) -> None:
    source = kaggle(tmp_path / "ner_dataset.csv", encoding=encoding)
    assert prepare(tmp_path / "out", "--source", source) == 0
    assert [len(sentences(tmp_path / "out", split)) for split in SPLITS] == [28, 6, 6]
    assert set(everything(tmp_path / "out")) == {f"Zoë{i} “sings” ." for i in range(1, 41)}
    first = (tmp_path / "out/train/labels.txt").read_text().splitlines()[0]
    assert first == "B-per O O"


def test_a_sentence_number_in_every_row_gives_the_same_sentences(tmp_path: Path) -> None:
    source = kaggle(tmp_path / "a.csv")
    number, lines = "", []
    for line in source.read_text("windows-1252").splitlines():
        number = line.split(",")[0] or number
        lines.append(",".join([number, *line.split(",")[1:]]))
    (tmp_path / "b.csv").write_text("\n".join(lines) + "\n", "utf-8")
    for name in "ab":
        assert prepare(tmp_path / name, "--source", tmp_path / f"{name}.csv") == 0
    assert everything(tmp_path / "a") == everything(tmp_path / "b")


def test_quotation_marks_commas_and_odd_spaces_are_words(tmp_path: Path) -> None:
    extra = '\r\nSentence: 41,"""",``,O\r\n,"1,000",CD,O\r\n,a b,NN,O\r\n,\u00a0,NN,O\r\n,NULL,NN,O'
    source = kaggle(tmp_path / "ner_dataset.csv", extra=extra)
    assert prepare(tmp_path / "out", "--source", source) == 0
    words = [s.words for split in SPLITS for s in read_split(tmp_path / "out", split)]
    assert ['"', "1,000", "a_b", "\u00a0", "NULL"] in words


def test_a_seed_decides_the_split_and_every_byte(tmp_path: Path) -> None:
    source = kaggle(tmp_path / "ner_dataset.csv")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert prepare(tmp_path / name, "--source", source, "--seed", seed) == 0
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert sorted(everything(tmp_path / "a")) == sorted(everything(tmp_path / "c"))
    assert set(sentences(tmp_path / "a", "test")) != set(sentences(tmp_path / "c", "test"))


def test_sentences_that_stand_in_two_splits_are_counted_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(tmp_path / "out", "--source", conll(tmp_path / "all.txt", ["a"] * 20)) == 0
    assert "warning: 6 sentences of val and test stand in train" in capsys.readouterr().out
    assert len(everything(tmp_path / "out")) == 20


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'Sentence #'"),
        ("Sentence #,Word,POS\n", "no column 'Tag'"),
        (f"{HEADER}\n", "no sentences"),
        (f"{HEADER}\nSentence: 1,\x81\x8d,NN,O\n", "line 2: neither UTF-8 nor"),
        (f"{HEADER}\nSentence: 1,a,NN,O\n", "1 sentences are too few"),
        (f"{HEADER}\nSentence: 1,word,NN,Q", "line 2: tag 'Q', want O, B-type or I-type"),
        (f"{HEADER}\nSentence: 1,,NN,O", "line 2: no word"),
        (f"{HEADER}\nSentence: 1,word", "line 2: 2 columns, want 4"),
        (f'{HEADER}\nSentence: 1,"word,NN,O\n,b,NN,O\n', "columns, want 4"),  # not closed
        (f'{HEADER}\nSentence: 1,"word\nb",NN,O\n', "line 3: a line break in the word"),
    ],
)
def test_faulty_files_are_told_by_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "ner_dataset.csv").write_text(text, encoding="latin-1")
    assert prepare(tmp_path / "out", "--source", tmp_path / "ner_dataset.csv") == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "names",
    [
        ("train.conll", "val.conll", "test.conll"),
        ("train.txt", "dev.txt", "test.txt"),
        ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"),
        ("eng.train", "eng.testa", "eng.testb"),
        ("TRAIN.bio", "valid.bio", "Test.bio"),
    ],
)
def test_a_folder_of_conll_files_keeps_its_splits_and_their_order(
    tmp_path: Path, names: Sequence[str]
) -> None:
    for name, words in zip(names, (["b", "a", "c"], ["d"], ["e", "f"]), strict=True):
        conll(tmp_path / "in" / name, words)
    (tmp_path / "in/README.md").write_text("about")
    assert prepare(tmp_path / "out", "--source", tmp_path / "in") == 0
    assert sentences(tmp_path / "out", "train") == ["b .", "a .", "c ."]
    assert sentences(tmp_path / "out", "val") == ["d ."]
    assert sentences(tmp_path / "out", "test") == ["e .", "f ."]
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["generated"], manifest["seed"]) == (False, None)
    before = hashes(tmp_path / "in")
    assert prepare(tmp_path / "in", "--source", tmp_path / "in") == 2
    assert hashes(tmp_path / "in") == before


def test_a_single_conll_file_is_split(tmp_path: Path) -> None:
    source = conll(tmp_path / "all.conll", [f"w{i}" for i in range(40)])
    assert prepare(tmp_path / "out", "--source", source) == 0
    assert [len(sentences(tmp_path / "out", split)) for split in SPLITS] == [28, 6, 6]
    assert sorted(everything(tmp_path / "out")) == sorted(f"w{i} ." for i in range(40))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("train.txt", "test.txt"), "want one file with val, valid, validation, dev, testa"),
        (("train.txt", "dev.txt", "val.txt", "test.txt"), "'dev.txt', 'val.txt'"),
        ((), "want one file with train in its name, found none"),
    ],
)
def test_a_folder_without_one_file_for_each_split_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: Sequence[str], said: str
) -> None:
    (tmp_path / "in").mkdir()
    for name in names:
        conll(tmp_path / "in" / name, ["a"])
    assert prepare(tmp_path / "out", "--source", tmp_path / "in") == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_faults_in_conll_files_are_told_by_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conll(tmp_path / "all.txt", ["a"] * 20)
    with (tmp_path / "all.txt").open("a") as file:
        file.write("a O\nb\n")
    assert prepare(tmp_path / "out", "--source", tmp_path / "all.txt") == 1
    assert "all.txt, line 62: no tag in a second column" in capsys.readouterr().err


def test_a_seed_decides_the_made_up_sentences_and_the_manifest_says_that_they_are(
    tmp_path: Path,
) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        assert prepare(tmp_path / name, "--count", 400, "--seed", seed) == 0
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    found = set(everything(tmp_path / "a"))
    assert len(found) == 400  # no two are the same
    assert len(found & set(everything(tmp_path / "c"))) <= len(TAGGED) + 20
    manifest = json.loads((tmp_path / "a/manifest.json").read_text())
    assert (manifest["generated"], manifest["seed"]) == (True, 7)
    said = "sentences made up by data/ner/prepare.py, seed 7: not collected texts"
    assert manifest["description"] == said


def test_made_up_sentences_have_all_types_and_names_that_training_lacks(tmp_path: Path) -> None:
    assert prepare(tmp_path / "out") == 0
    types = {f"{place}-{kind}" for kind in ("geo", "org", "per", "tim") for place in "BI"}
    known: set[str] = set()
    for split in SPLITS:
        tagged = [
            (word, tag)
            for sentence in read_split(tmp_path / "out", split)
            for word, tag in zip(sentence.words, sentence.tags, strict=True)
        ]
        assert {tag for _, tag in tagged} == types | {"O"}
        names = {word for word, tag in tagged if tag[2:] in ("geo", "per")}
        known = known or names  # those of train, the first
        assert split == "train" or len(names - known) > 0.1 * len(names)


def test_every_written_sentence_is_marked_correctly() -> None:
    for text in TAGGED:
        words, tags = parse(text)
        assert len(words) == len(tags) == len(text.replace("[", "").split())
        assert all(TAG.fullmatch(tag) for tag in tags)
        assert not re.search(r"[\[\]|{}]", " ".join(words))


@pytest.mark.parametrize(
    "options",
    [
        ["--source", "no/such/file"],
        ["--seed", "-1"],
        ["--count", "19"],
        ["--count", "100", "--source", "."],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert prepare(tmp_path / "out", *options) == 2
    assert options[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_croissant_json_tells_of_sentences_and_labels(tmp_path: Path) -> None:
    assert prepare(tmp_path / "out", "--count", 40) == 0
    names = [f"{split}/{kind}" for split in SPLITS for kind in ("sentences", "labels")]
    found = croissant(tmp_path / "out")
    assert found["fields"] == {key: ["line"] for key in names}
    assert found["files"] == {"manifest.json", *(f"{name}.txt" for name in names)}
