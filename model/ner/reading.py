"""Reading sentences whose words are tagged `O`, `B-type` or `I-type`, in either of two layouts.

{split}/sentences.txt, {split}/labels.txt   one sentence a line, single spaces between words
{split}.conll                               one word a line: word and tag in the first and last
                                            column, a blank line between sentences

What a word is, `split_words` alone decides, here, in data/ner/prepare.py and in predict.py.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from core.base.errors import DataError, listed

SPLITS = ("train", "val", "test")
TAG = re.compile(r"O|[BI]-[^ \t]+")
LIKE_TAG = re.compile(r"O|[A-Z]-[^ \t]+")  # those of other schemes, too


class Sentence(NamedTuple):
    """The words of a sentence, their tags, and where they stand, such as "labels.txt, line 7"."""

    words: list[str]
    tags: list[str]
    place: str


def split_words(text: str) -> list[str]:
    """Return the words of a line: what stands between spaces or tabs.

    Any other character is part of a word, no-break spaces and U+2028 too.
    """
    return re.findall(r"[^ \t\r\n]+", text)


def one_word(text: str) -> str:
    """Return a column's text as one word: spaces and tabs inside it become `_`."""
    return "_".join(split_words(text))


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
        words, tags = map(split_words, texts)
        sentences.append(Sentence(words, tags, f"{tags_path}, line {number}"))
        if not words or (" ".join(words), " ".join(tags)) != texts:
            path = tags_path if words and " ".join(words) == texts[0] else words_path
            faults.append(f"{path}, line {number}: a blank line, or a space too many, or a tab")
        elif len(words) != len(tags):
            faults.append(f"{tags_path}, line {number}: {len(words)} words, but {len(tags)} tags")
        else:
            faults += [f"{tags_path}, line {number}: {fault}" for fault in bad_tags(tags)]
    return checked(sentences, faults, tags_path.parent)


def columns_of(line: str) -> list[str]:
    """Return the columns of a line, which tabs separate, or spaces if there are no tabs."""
    return [one_word(part) for part in line.split("\t")] if "\t" in line else split_words(line)


def looks_like_conll(lines: Sequence[str]) -> bool:
    """Tell whether these are a word and its tag a line, not sentences: every last column is a tag.

    A single line is a sentence.
    """
    rows = [columns_of(line) for line in lines if not line.startswith("-DOCSTART-")]
    rows = [row for row in rows if any(row)]
    return len(rows) > 1 and all(len(row) > 1 and LIKE_TAG.fullmatch(row[-1]) for row in rows)


def read_conll(path: Path) -> list[Sentence]:
    """Read columns that tabs or spaces separate; lines that begin with -DOCSTART- are skipped."""
    return parse_conll(read_lines(path), path)


def parse_conll(lines: Sequence[str], path: Path | str) -> list[Sentence]:
    """Read the lines of a file of columns; DataError names `path` and the lines of faults."""
    sentences, faults = [], []
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*lines, ""], start=1):
        if not split_words(line) or line.startswith("-DOCSTART-"):
            if words:
                place = f"{path}, sentence from line {number - len(words)}"
                sentences.append(Sentence(words, tags, place))
            words, tags = [], []
            continue
        columns = columns_of(line)
        words.append(columns[0])
        tags.append(columns[-1])
        found = bad_tags(tags[-1:])
        if len(columns) == 1 or not words[-1]:
            found = ["no tag in a second column" if words[-1] else "no word in the first column"]
        faults += [f"{path}, line {number}: {fault}" for fault in found]
    return checked(sentences, faults, path)


def read_lines(path: Path | str) -> list[str]:
    """Return the lines of a UTF-8 file, "-" being standard input, without blank ones at its end.

    Unlike str.splitlines this cuts at ends of lines only, not at U+0085 or U+2028 inside a word.
    A byte order mark is dropped, in the middle too, where two files were joined.
    """
    data = _standard_input() if path == "-" else None
    path = "standard input" if path == "-" else path
    try:
        text = (Path(path).read_bytes() if data is None else data).decode()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8") from None
    lines = re.split("\r\n|\r|\n", text.replace("\ufeff", ""))
    while lines and not split_words(lines[-1]):
        lines.pop()
    if not lines:
        raise DataError(f"{path}: the file is empty")
    return lines


def _standard_input() -> bytes:
    """Return the bytes of standard input, whatever encoding the system would read them in."""
    binary = getattr(sys.stdin, "buffer", None)  # a text stream in its place has none
    return binary.read() if binary else sys.stdin.read().encode()


def bad_tags(tags: list[str]) -> list[str]:
    """Say what is wrong with those that are no tags."""
    return [f"tag {t!r}, want O, B-type or I-type" for t in tags if not TAG.fullmatch(t)]


def checked(sentences: list[Sentence], faults: list[str], where: Path | str) -> list[Sentence]:
    """Return the sentences; DataError if there are faults, or no sentences."""
    if faults:
        raise DataError(f"{where}: {len(faults)} faults:\n{listed(faults)}")
    if not sentences:
        raise DataError(f"{where}: no sentences")
    return sentences
