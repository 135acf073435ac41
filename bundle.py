"""Put a run into one file: params, code, metrics, predictions, weights, and how to verify them.

python bundle.py experiments/base_model --output base_model.zip
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from core.base.errors import DataError, plural
from core.base.files import checkpoint_hash
from core.base.predictions import read_predictions
from core.machine.outcome import Outcome
from core.machine.script import answers_in_json, reports_errors
from core.results.statistics import interval, resampled
from core.run.restoring import restore
from core.verify.bundle import write_bundle
from core.verify.record import Record

SECONDS = 20.0  # that the intervals of a split may take


def get_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    parser.add_argument("--output", type=Path, metavar="FILE.zip", required=True)
    parser.add_argument("--data_dir", help="default: as the run last used them")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    return parser.parse_args(argv)


def intervals(record: Record) -> dict[str, dict[str, tuple[float, float]]]:
    """Return 95% intervals of the metrics of best.pt, by split, where predictions were kept."""
    found, sha256 = {}, checkpoint_hash(record.folder / "best.pt")
    metrics = restore(record.folder, "best", str(record.data_dir)).task.metrics
    plain = {name: each for name, each in metrics.items() if not hasattr(each, "compute")}
    for split in record.evaluations():
        try:
            predictions = read_predictions(record.folder / f"predictions_{split}.npz")
        except DataError:
            continue
        if predictions.checkpoint == sha256 and predictions.labels is not None:
            draws = resampled([predictions], plain, SECONDS)
            found[split] = {n: interval(d[:, 0], len(predictions)) for n, d in draws.items()}
    return found


@answers_in_json
@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    args = get_args(argv)
    logging.disable(logging.WARNING)  # what restoring would tell
    try:
        record = Record(args.run, args.data_dir)
        files = write_bundle(record, args.output, intervals(record))
    finally:
        logging.disable(logging.NOTSET)
    print(f"Wrote {plural(len(files), 'file', 'files')} into {args.output}")
    return Outcome(0, args.run, {}, output=str(args.output), files=files)


if __name__ == "__main__":
    sys.exit(main())
