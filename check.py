"""Tell in a minute whether a net and its loaders are sound, before hours are spent on them.

    python check.py --model_dir experiments/base_model

Every check prints `pass`, `FAIL` with the reason and where to look, or `n/a`; the exit code is 1 if
any fails. It works in a temporary copy of the run's params, and writes nothing into the run.
"""

import argparse
import logging
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import train
from core.base.errors import UserError, plural, settings
from core.base.params import find_params_file, load_params, parse_overrides
from core.check.checks import Report, run_all
from core.check.subject import Subject
from core.data.folder import find_data_dir
from core.machine.outcome import Outcome
from core.machine.script import answers_in_json, common_parser, reports_errors
from core.run.code import import_task
from core.run.folder import read_resolved
from core.training.checkpoint import read_newest


def get_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = common_parser(__doc__)
    parser.add_argument(
        "--seed", type=int, help="seed of the checks' own choices; default: a new one"
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--find_lr", action="store_true", help="plot the loss over learning rates")
    other.add_argument("--replay", action="store_true", help="run the step that was not finite")
    return parser.parse_args(argv)


@answers_in_json
@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    args = get_args(argv)
    overrides = parse_overrides(args.settings)
    if args.data_dir is not None:
        overrides["data_dir"] = args.data_dir
    path = find_params_file(args.model_dir)
    logging.disable(logging.WARNING)  # what the runs of the checks would tell
    logging.captureWarnings(True)
    try:
        if args.replay:
            from core.check.replay import replay

            print(found := replay(args.model_dir, train, overrides))
            return Outcome(0, args.model_dir, {}, replay=found)
        with tempfile.TemporaryDirectory() as temporary:
            shutil.copy(path, temporary)
            return check(args, path, overrides, Path(temporary))
    finally:
        logging.disable(logging.NOTSET)
        logging.captureWarnings(False)


def check(args: argparse.Namespace, path: Path, overrides: dict[str, object], copy: Path) -> int:
    """Check the task of a params file, of which `copy` holds a copy; returns the exit code."""
    notes: list[str] = []
    last = read_newest(args.model_dir, notes)
    if last is not None:  # as train.py would start: what the run was given is in force
        of_run = read_resolved(args.model_dir).get("overrides", {})
        notes += [f"the run has {settings(of_run)}"] if of_run else []
        if last.get("finished"):
            done = plural(last["epoch"], "epoch", "epochs")
            notes.append(f"the run is complete after {done}; a new start of it is checked")
        overrides = of_run | overrides
    params, warnings = load_params(path, overrides)
    for note in notes + warnings:
        print(f"note: {note}")
    data_dir = find_data_dir(params, import_task(params))
    seed = random.SystemRandom().randrange(1000) if args.seed is None else args.seed
    subjects: list[Subject] = []

    def build() -> str:
        try:
            subjects.append(
                Subject(copy, data_dir, overrides, train, seed, last["epoch"] if last else 0)
            )
        except UserError as error:  # of the copy of the params file
            raise type(error)(str(error).replace(str(copy), str(args.model_dir))) from error
        return ", ".join(f"{n} {len(each)} batches" for n, each in subjects[0].own_loaders.items())

    report = Report(args.traceback)
    if not report.run("loaders and net are built", build):
        report.end()
        return Outcome(1, args.model_dir, {}, checks=report.rows)
    if args.find_lr:
        from core.check.learning_rate import find_lr

        print(find_lr(subjects[0], args.model_dir / "find_lr.png"))
        return 0
    run_all(subjects[0], report, subjects[0].task.waived_checks)
    report.end()
    return Outcome(1 if report.failed else 0, args.model_dir, {}, checks=report.rows)


if __name__ == "__main__":
    sys.exit(main())
