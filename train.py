"""Train the net of a params file; the same command resumes a run that was interrupted.

python train.py --model_dir experiments/base_model
"""

import argparse
import signal
from collections.abc import Sequence

import core  # isort: skip  # noqa: F401 - before torch: it says how threads wait
from torch import Tensor

from core.base.errors import Stopped
from core.machine.outcome import Outcome
from core.machine.processes import leave
from core.machine.script import answers_in_json, common_parser, reports_errors
from core.run import messages
from core.run.kept_outputs import wanted_bytes
from core.run.opening import started
from core.run.run import Run
from core.task import Batch, Loader
from core.training.state import State, make_state
from evaluate import evaluate


def train_step(state: State, batch: Batch) -> dict[str, Tensor]:
    """Forward, backward, update: what happens with a batch if the task defines no step of its own.

    `state.update` zeroes the gradients, runs the backward pass and steps the optimizer.
    """
    with state.autocast():
        outputs, labels = state.task.forward(state.model, batch, state.params)
        losses = state.task.losses(outputs, labels)
    state.update(losses["loss"], weight=state.task.loss_weight(outputs, labels))
    state.seen = outputs, labels  # what the training metrics are computed from
    return losses


def train(state: State, loader: Loader, run: Run) -> dict[str, float]:
    """Train for one epoch, or what is left of it.

    Returns:
        The mean of every loss, and every metric, of all examples of the epoch as they were when
        they were trained on.
    """
    step = state.task.train_step or train_step
    state.model.train()
    with run.progress(state, loader) as batches:  # those left of the epoch, on the device
        for batch in batches:
            losses = step(state, batch)
            state.end_batch(losses)  # counters, averages, schedule, sums
            if state.update_ended:  # else more batches follow: grad_accumulation
                run.after_update(state)  # saves if it is time; ends here if a signal has come
    return state.tally.means() | state.tally.metrics()


def train_and_evaluate(state: State, loaders: dict[str, Loader], run: Run) -> None:
    """Train until `num_epochs` are done, with a validation and a checkpoint after every epoch."""
    while state.epoch < state.params.num_epochs and not state.stopped_early:
        if run.stop.after is not None and state.epoch >= run.stop.after:
            raise Stopped(signal.SIGUSR1)  # as if it had come: the run saves, and can be resumed
        trained = train(state, loaders["train"], run)
        state.metrics, _ = evaluate(
            state.net, loaders["val"], state.task, state.params, watch=run.watch
        )
        is_best = state.end_epoch()  # steps the schedule, compares with the best epoch
        run.write_epoch(state, trained, is_best)  # row, checkpoint, log


def predict_with_best(state: State, loader: Loader, run: Run) -> None:
    """Write the best weights' predictions on the validation split."""
    if state.params.save_predictions and state.best is not None:
        with run.best_net(state) as net:
            kept = wanted_bytes(state.params)
            _, tally = evaluate(net, loader, state.task, state.params, kept, run.watch)
        run.write_predictions(tally, loader)


def train_to_the_end(run: Run) -> int:
    """Begin or resume a run, and train it to the end; returns the exit code."""
    loaders = run.fetch_loaders()  # first, because what they set on params reaches Net
    state = make_state(run.task, run.params, run.device, loaders["train"], run.new)
    run.resume(state, loaders)  # from the last checkpoint; a new run from its first weights
    train_and_evaluate(state, loaders, run)
    messages.end(state, run.baseline)
    predict_with_best(state, loaders["val"], run)
    return run.finish(state)


def get_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = common_parser(__doc__)
    parser.add_argument("--restore_file", help="start from the weights of this checkpoint")
    parser.add_argument("--stop_after", type=int, metavar="EPOCH", help="stop here; resumable")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="continue with changed params or data")
    again.add_argument("--overwrite", action="store_true", help="remove the run's outputs first")
    return parser.parse_args(argv)


@answers_in_json
@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    with started(get_args, argv) as run:  # torchrun, signals, the folder's lock, params and log
        code = run.tell_complete() if run.complete else train_to_the_end(run)
    return Outcome(code, run.folder)


if __name__ == "__main__":
    leave(main())
