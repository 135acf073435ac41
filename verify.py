"""Does a run's record follow from its params, code and data? Nothing in its folder is changed.

    python verify.py experiments/base_model --segments 3

It trains stretches between kept checkpoints again (`keep_checkpoints`), chosen at random, and
compares every bit. The exit code is 1 if anything differs, 3 if something cannot be checked here.
"""

import argparse
import logging
import random
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import train
from core.base.errors import plural
from core.machine.outcome import Outcome
from core.machine.script import answers_in_json, one_process_only, reports_errors
from core.verify.execution import evaluate, execute, stretches
from core.verify.record import Record

VERIFIED, DIFFERS, CANNOT = "verified", "differs", "cannot be checked"
CODES = {VERIFIED: 0, DIFFERS: 1, CANNOT: 3}


def get_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    parser.add_argument("--data_dir", help="default: as the run last used them")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--segments", type=int, default=3, help="stretches (default: %(default)s)")
    chosen.add_argument("--all", action="store_true", help="train every stretch again")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not a table")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    args = parser.parse_args(argv)
    if args.segments < 0:
        parser.error("--segments: want 0 or more")
    return args


class Table:
    """What was looked at, the verdict and why, a row each of at most 80 columns."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    def add(self, what: str, faults: list[str], unlike: Sequence[str], told: str = "") -> None:
        """Print a row; a fault may come from this machine, for the reasons in `unlike`."""
        verdict = (CANNOT if unlike else DIFFERS) if faults else VERIFIED
        told = "; ".join([*faults, *unlike]) if faults else told
        self.rows.append({"what": what, "verdict": verdict, "told": told})
        lines = textwrap.wrap(told, 80 - 39) or [""]
        print(f"{what:<19} {verdict:<17}  {lines[0]}".rstrip(), flush=True)
        for line in lines[1:]:
            print(" " * 39 + line)


def verify(args: argparse.Namespace) -> Table:
    """Look at all parts of a record; returns the table."""
    table, record = Table(), Record(args.run, args.data_dir)
    table.add("versions", record.unlike, record.unlike, "as they were")
    table.add("params", record.of_params(), ())
    table.add("code", record.of_code(), record.code_changed)
    table.add("data", record.of_data(), (), str(record.data_dir))
    count = plural(len(record.paths), "checkpoint", "checkpoints")
    table.add("chain", record.of_chain(), (), f"{count} kept")
    table.add("numbers", record.of_numbers(), (), plural(record.epochs, "epoch", "epochs"))
    found = stretches(record)
    chosen = found if args.all else random.sample(found, min(args.segments, len(found)))
    for stretch in sorted(chosen, key=found.index):
        faults, unlike = execute(record, stretch, train)
        table.add(stretch.name, faults, unlike, "trained again, bit by bit")
    for split in record.evaluations():
        told = "best.pt was evaluated again"
        table.add(f"scores on {split}", evaluate(record, split, train), record.unlike, told)
    left = len(found) - len(chosen)
    if left:
        print(f"{plural(left, 'stretch was', 'stretches were')} not trained again: see --all")
    return table


@answers_in_json
@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    one_process_only("verify.py")
    args = get_args(argv)
    logging.disable(logging.WARNING)  # what training and evaluation would tell
    logging.captureWarnings(True)
    try:
        table = verify(args)
    finally:
        logging.disable(logging.NOTSET)
        logging.captureWarnings(False)
    verdicts = {row["verdict"] for row in table.rows}
    verdict = next(v for v in (DIFFERS, CANNOT, VERIFIED) if v in verdicts)
    print(f"{args.run}: {verdict}")
    return Outcome(CODES[verdict], args.run, {}, verdict=verdict, rows=table.rows)


if __name__ == "__main__":
    sys.exit(main())
