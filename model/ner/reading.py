"""Reading sentences whose words are tagged `O`, `B-type` or `I-type`, in either of two layouts.

{split}/sentences.txt, {split}/labels.txt   one sentence a line, single spaces between words
{split}.conll                               one word a line: word and tag in the first and last
                                            column, a blank line between sentences
"""

import re
from pathlib import Path
from typing import NamedTuple

from core.base.errors import DataError, listed

SPLITS = ("train", "val", "test")
TAG = re.compile(r"O|[BI]-.+")


class Sentence(NamedTuple):
    """The words of a sentence, their tags, and where they stand, such as "labels.txt, line 7"."""

    words: list[str]
    tags: list[str]
    place: str


def read_split(folder: Path, split: str) -> list[Sentence]:
    """Return the sentences of a split, whichever layout it has.

    Raises:
        DataError: the files are missing, empty or not UTF-8; or sentences are faulty, of which it
            names file and line, the first ten and a count.
    """
    pair, table = folder / split, folder / f"{split}.conll"
    if pair.is_dir():
        return read_pair(pair / "sentences.txt", pair / "labels.txt")
    if table.is_file():
        return read_conll(table)
    raise DataError(
        f"{folder}: found neither {split}/sentences.txt nor {split}.conll\n"
        "data/ner/prepare.py makes the data."
    )


def has_split(folder: Path, split: str) -> bool:
    """Tell whether there are files of a split."""
    return (folder / split).is_dir() or (folder / f"{split}.conll").is_file()


def read_pair(words_path: Path, tags_path: Path) -> list[Sentence]:
    """Read `sentences.txt` and `labels.txt`: line by line as many tags as words."""
    lines, tag_lines = read_lines(words_path), read_lines(tags_path)
    if len(lines) != len(tag_lines):
        raise DataError(
            f"{words_path} has {len(lines)} sentences, but {tags_path} has {len(tag_lines)}"
        )
    sentences, faults = [], []
    for number, texts in enumerate(zip(lines, tag_lines, strict=True), start=1):
        words, tags = (text.split(" ") for text in texts)
        sentences.append(Sentence(words, tags, f"{tags_path}, line {number}"))
        if "" in words or "" in tags:
            path = words_path if "" in words else tags_path
            faults.append(f"{path}, line {number}: a blank line, or a space too many")
        elif len(words) != len(tags):
            faults.append(f"{tags_path}, line {number}: {len(words)} words, but {len(tags)} tags")
        else:
            faults += [f"{tags_path}, line {number}: {fault}" for fault in bad_tags(tags)]
    return checked(sentences, faults, tags_path.parent)


def read_conll(path: Path) -> list[Sentence]:
    """Read columns that tabs or spaces separate; lines that begin with -DOCSTART- are skipped."""
    sentences, faults = [], []
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*read_lines(path), ""], start=1):
        if not line.strip(" \t") or line.startswith("-DOCSTART-"):
            if words:
                place = f"{path}, sentence from line {number - len(words)}"
                sentences.append(Sentence(words, tags, place))
            words, tags = [], []
            continue
        columns = line.split("\t") if "\t" in line else re.split(" +", line.strip(" "))
        words.append(columns[0].strip(" "))
        tags.append(columns[-1].strip(" "))
        found = bad_tags(tags[-1:])
        if len(columns) == 1 or not words[-1]:
            found = ["no tag in a second column" if words[-1] else "no word in the first column"]
        faults += [f"{path}, line {number}: {fault}" for fault in found]
    return checked(sentences, faults, path)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, without blank ones at its end.

    Unlike str.splitlines this cuts at ends of lines only, not at U+0085 or U+2028 inside a word.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8") from None
    lines = text.split("\n")
    while lines and not lines[-1].strip(" \t"):
        lines.pop()
    if not lines:
        raise DataError(f"{path}: the file is empty")
    return lines


def bad_tags(tags: list[str]) -> list[str]:
    """Say what is wrong with those that are no tags."""
    return [f"tag {t!r}, want O, B-type or I-type" for t in tags if not TAG.fullmatch(t)]


def checked(sentences: list[Sentence], faults: list[str], where: Path) -> list[Sentence]:
    """Return the sentences; DataError if there are faults, or no sentences."""
    if faults:
        raise DataError(f"{where}: {len(faults)} faults:\n{listed(faults)}")
    if not sentences:
        raise DataError(f"{where}: no sentences")
    return sentences
