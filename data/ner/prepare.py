"""Makes the named-entities data set: {train,val,test}/sentences.txt and labels.txt.

    python data/ner/prepare.py --source ner_dataset.csv   # the Kaggle file, split 70/15/15
    python data/ner/prepare.py --source FOLDER            # CoNLL files: train, val (or dev), test
    python data/ner/prepare.py --source FILE              # one CoNLL file, split 70/15/15
    python data/ner/prepare.py                            # makes sentences up instead

A line of sentences.txt is a sentence, its words separated by single spaces; the same line of
labels.txt holds their tags: O, or B- or I- and the type of the entity.
"""

import argparse
import csv
import io
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository's root

from core.base.errors import DataError
from core.machine.script import reports_errors
from data.ner.sentences import make_sentences
from data.prepared import field, staging, write_croissant, write_manifest
from model.ner.reading import SPLITS, Sentence, bad_tags, checked, one_word, read_conll

SCRIPT = "data/ner/prepare.py"
OUTPUT = Path("data/entities")
SEED = 230
NUM_SENTENCES, FEWEST = 4000, 20
COLUMNS = ("Sentence #", "Word", "Tag")
# What a file's name says between two non-letters; eng.testa of CoNLL 2003 is for validation.
NAMES = {"train": "train", "val": "val|valid|validation|dev|testa", "test": "test|testb"}

Splits = Mapping[str, Sequence[Sentence]]


def read_kaggle(path: Path) -> list[Sentence]:
    """Read a CSV file with a row for every word; a sentence begins where its number changes.

    Raises:
        DataError: the file is empty, neither UTF-8 nor Windows-1252, has other columns, or has
            faulty rows, of which the first ten are named, and a count.
    """
    sentences: list[Sentence] = []
    faults: list[str] = []
    rows = csv.reader(io.StringIO(decode(path), newline=""))
    header = next(rows, [])
    if missing := [name for name in COLUMNS if name not in header]:
        raise DataError(f"{path}, line 1: no column {missing[0]!r}, want {', '.join(COLUMNS)}")
    places, current = [header.index(name) for name in COLUMNS], ""
    try:
        for row in tqdm(rows, unit="word", disable=not sys.stderr.isatty()):
            place = f"{path}, line {rows.line_num}"
            if len(row) != len(header):
                faults.append(f"{place}: {len(row)} columns, want {len(header)}")
                continue
            number, word, tag = (row[i] for i in places)
            if not sentences or number not in ("", current):
                sentences.append(Sentence([], [], place))
                current = number
            sentences[-1].words.append(one_word(word))
            sentences[-1].tags.append(one_word(tag))
            faults += [f"{place}: {fault}" for fault in bad_tags([one_word(tag)])]
            if not one_word(word) or "\n" in word:
                faults.append(f"{place}: {'a line break in the' if one_word(word) else 'no'} word")
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: {error}") from error
    return checked(sentences, faults, path)


def decode(path: Path) -> str:
    """Return the text of a file in UTF-8 or Windows-1252, which is what Kaggle hands out."""
    data = path.read_bytes()
    for encoding in ("utf-8", "windows-1252"):
        try:
            return data.decode(encoding).replace("\ufeff", "")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
    raise DataError(f"{path}, line {line}: neither UTF-8 nor Windows-1252")


def read_folder(folder: Path) -> Splits:
    """Read the CoNLL files of the three splits; DataError if there is not one file for each."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name[0] != ".")
    splits = {}
    for split, words in NAMES.items():
        pattern = re.compile(f"(?<![a-z])({words})(?![a-z])")
        found = [name for name in names if pattern.search(name.lower())]
        if len(found) != 1:
            wanted = words.replace("|", ", ")
            raise DataError(
                f"{folder}: want one file with {wanted} in its name, found {found or 'none'}"
            )
        splits[split] = read_conll(folder / found[0])
    return splits


def split_at_random(sentences: Sequence[Sentence], seed: int) -> Splits:
    """Shuffle the sentences and cut them at 70% and 85%, as the CS230 template does."""
    count = len(sentences)
    if count < FEWEST:
        raise DataError(f"{count} sentences are too few for three splits, want {FEWEST} or more")
    shuffled = [sentences[i] for i in np.random.default_rng(seed).permutation(count)]
    first, second = int(0.7 * count), int(0.85 * count)
    parts = shuffled[:first], shuffled[first:second], shuffled[second:]
    return dict(zip(SPLITS, parts, strict=True))


def write_splits(splits: Splits, folder: Path) -> None:
    """Write sentences.txt and labels.txt of every split."""
    for split, sentences in splits.items():
        (folder / split).mkdir()
        for name, rows in (
            ("sentences.txt", (" ".join(sentence.words) for sentence in sentences)),
            ("labels.txt", (" ".join(sentence.tags) for sentence in sentences)),
        ):
            text = "".join(f"{row}\n" for row in rows)
            (folder / split / name).write_text(text, encoding="utf-8", newline="\n")


def fields() -> dict[str, list[object]]:
    """Return what croissant.json says of the files: a line of each is a sentence."""
    kinds = {"sentences": "words, between single spaces", "labels": "tags, one a word"}
    return {
        f"{split}/{kind}": [field("line", "Text", about, f"{split}/{kind}.txt", "lines")]
        for split in SPLITS
        for kind, about in kinds.items()
    }


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; a usage error ends the program with exit code 2."""
    parser = argparse.ArgumentParser(description="Make the named-entities data set.")
    parser.add_argument("--source", type=Path, help="a file, or a folder; without it, made up")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--count", type=int, help=f"sentences to make up, default: {NUM_SENTENCES}")
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"--seed: found {args.seed}, want 0 or more")
    if args.source and not args.source.exists():
        parser.error(f"--source: {args.source}: no such file or folder")
    if args.source and args.count is not None:
        parser.error("--count is for made-up sentences and does not go with --source")
    args.count = NUM_SENTENCES if args.count is None else args.count
    if args.count < FEWEST:
        parser.error(f"--count: found {args.count}, want {FEWEST} or more")
    return args


def read_source(args: argparse.Namespace) -> tuple[str, Splits, int | None]:
    """Return what the sentences are, in words, the splits, and the seed if it decided anything."""
    by_seed = f"split by seed {args.seed}"
    if args.source is None:
        made = [Sentence(*pair, SCRIPT) for pair in make_sentences(args.count, args.seed)]
        what = f"sentences made up by {SCRIPT}, seed {args.seed}: not collected texts"
        return what, split_at_random(made, args.seed), args.seed
    if args.source.is_dir():
        return f"sentences of {args.source.name}, as split there", read_folder(args.source), None
    read = read_kaggle if args.source.suffix.lower() == ".csv" else read_conll
    splits = split_at_random(read(args.source), args.seed)
    return f"sentences of {args.source.name}, {by_seed}", splits, args.seed


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Make the data set. Exit code 1: the data or the disk prevent it; 2: the command line."""
    args, start = parse_arguments(argv), time.perf_counter()
    what, splits, seed = read_source(args)
    with staging(args.output, args.source) as folder:
        write_splits(splits, folder)
        write_manifest(folder, SCRIPT, what, generated=args.source is None, seed=seed)
        write_croissant(folder, "Named entities", fields())
    seen = {tuple(sentence.words) for sentence in splits["train"]}
    if again := sum(tuple(s.words) in seen for name in ("val", "test") for s in splits[name]):
        print(f"warning: {again} sentences of val and test stand in train, too; they are kept")
    sizes = ", ".join(f"{len(splits[name])} {name}" for name in SPLITS)
    seconds = time.perf_counter() - start
    print(f"wrote {sum(map(len, splits.values()))} sentences ({sizes}) to {args.output} ", end="")
    print(f"in {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
