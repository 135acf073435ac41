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
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import train
from core.base.errors import UserError, reports_errors
from core.base.params import find_params_file, load_params, parse_overrides
from core.check import data_checks as preflight_data
from core.check import net_checks as preflight
from core.check.subject import FaultError, NotApplicableError, Trial
from core.data.folder import find_data_dir
from core.machine.script import common_parser
from core.run.folder import recorded
from core.task import load_task
from core.training.checkpoint import read_newest

Check = Callable[[Trial], str | None]

CHECKS: dict[str, Check] = {
    "the loader yields the same batches twice": preflight_data.the_same_order_twice,
    "worker processes change no batch": preflight_data.workers_change_nothing,
    "every example can be read": preflight_data.every_example_can_be_read,
    "splits share no example": preflight_data.splits_share_no_example,
    "labels are of one kind in all splits": preflight_data.labels_are_of_one_kind,
    "the first loss is near chance": preflight.first_loss_is_near_chance,
    "a gradient reaches every weight": preflight.gradient_reaches_every_weight,
    "the net learns one batch by heart": preflight.one_batch_is_learned,
    "no output depends on other examples": preflight.examples_do_not_meet,
    "a last batch of one is evaluated": preflight.a_batch_of_one_is_evaluated,
    "saved weights are the whole net": preflight.saved_weights_are_the_whole_net,
    "evaluation repeats itself": preflight.evaluation_repeats_itself,
    "the batch size changes no number": preflight.batch_size_changes_no_number,
    "the same seed gives the same steps": preflight.the_same_seed_gives_the_same_steps,
    "a stopped and resumed run ends bit-equal": preflight.a_resumed_run_ends_bit_equal,
    "speed": preflight_data.measure,
}


def show(verdict: str, what: str, told: str | None = None) -> None:
    """Print one line as soon as it is known."""
    print(f"{verdict:<4}  {what}" + (f": {told}" if told else ""), flush=True)


def passes(what: str, check: Callable[[], str | None], with_traceback: bool) -> bool:
    """Run one check and print its line; a fault of the user's code fails it."""
    try:
        show("pass", what, check())
    except NotApplicableError as error:
        show("n/a", what, str(error))
    except Exception as error:
        if with_traceback and not isinstance(error, FaultError):
            traceback.print_exc()
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        show("FAIL", what, kind + (" ".join(str(error).split()) or "no message"))
        return False
    return True


def check_all(trial: Trial, with_traceback: bool) -> bool:
    """Run every check; returns whether none failed."""
    each = [passes(what, partial(check, trial), with_traceback) for what, check in CHECKS.items()]
    return all(each)


def get_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = common_parser(__doc__)
    parser.add_argument("--seed", type=int, help="of the checks' own choices; default: a new one")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--find_lr", action="store_true", help="plot the loss over learning rates")
    other.add_argument("--replay", action="store_true", help="run the step that was not finite")
    return parser.parse_args(argv)


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    args = get_args(argv)
    path = find_params_file(args.model_dir)
    notes: list[str] = []
    last = read_newest(args.model_dir, notes)
    # As train.py would start: what a start without a checkpoint was given is not in force.
    with_those = last is not None or args.replay
    of_run = recorded(args.model_dir).get("overrides", {}) if with_those else {}
    overrides = of_run | parse_overrides(args.settings)
    if args.data_dir is not None:
        overrides["data_dir"] = args.data_dir
    params, warnings = load_params(path, overrides)
    data_dir = find_data_dir(params, load_task(params.task))
    seed = random.SystemRandom().randrange(1000) if args.seed is None else args.seed
    if not args.replay:
        notes += [f"the run has {name}={value}" for name, value in of_run.items()]
    for note in notes + warnings:
        print(f"note: {note}")
    logging.disable(logging.WARNING)  # what the runs of the checks would tell
    try:
        if args.replay:
            from core.check.replay import replay

            print(replay(args.model_dir, train))
            return 0
        with tempfile.TemporaryDirectory() as temporary:
            shutil.copy(path, temporary)
            trials: list[Trial] = []

            def build() -> str:
                folder, done = Path(temporary), last["epoch"] if last else 0
                try:
                    trials.append(Trial(folder, data_dir, overrides, train, seed, done))
                except UserError as error:  # of the copy of the params file
                    told = str(error).replace(temporary, str(args.model_dir))
                    raise type(error)(told) from error
                loaders = trials[0].own_loaders.items()
                return ", ".join(f"{split} {len(each)} batches" for split, each in loaders)

            if not passes("loaders and net are built", build, args.traceback):
                return 1
            if args.find_lr:
                from core.check.learning_rate import find_lr

                print(find_lr(trials[0], args.model_dir / "find_lr.png"))
                return 0
            return 0 if check_all(trials[0], args.traceback) else 1
    finally:
        logging.disable(logging.NOTSET)


if __name__ == "__main__":
    sys.exit(main())
