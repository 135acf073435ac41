"""A learning-rate range test (Smith 2017, section 3.3): the loss while the rate grows."""

import math
from pathlib import Path

import numpy as np
from tqdm import tqdm

from core.base.errors import NumericError
from core.check.subject import NotApplicableError, Subject

RATES = np.geomspace(1e-6, 10.0, 120).tolist()
KEPT = 0.9  # of the running mean, from step to step


def find_lr(subject: Subject, path: Path) -> str:
    """Train with a rate that grows by a factor every step, and plot the loss to a PNG.

    The test ends where the smoothed loss has risen to four times its lowest. The suggestion is a
    tenth of the rate at which it is lowest: a rule of thumb, to be held against the plot.
    """
    state = subject.fresh(constant_rate=True, batch_size=subject.params.batch_size)
    if len(state.optimizers) > 1:
        raise NotApplicableError("--find_lr: the task has several optimizers")
    groups = next(iter(state.optimizers.values())).param_groups
    before = [group["lr"] for group in groups]
    mean, losses = 0.0, list[float]()
    rates = tqdm(RATES, "learning rates", leave=False, disable=None)  # a bar on a terminal
    for rate, batch in zip(rates, subject.batches(subject.own_loaders), strict=False):
        for group, own in zip(groups, before, strict=True):  # groups keep their proportions
            group["lr"] = rate * own / max(before)
        try:
            loss = subject.step(state, batch)["loss"].item()
        except NumericError:
            break
        if not math.isfinite(loss):  # on a GPU
            break
        mean = KEPT * mean + (1 - KEPT) * loss
        losses.append(mean / (1 - KEPT ** (len(losses) + 1)))  # not biased to the 0 it began with
        if losses[-1] - min(losses) > 3 * abs(min(losses)):
            break
    if not losses:
        raise NumericError("--find_lr: the first loss is not finite")
    lowest = RATES[losses.index(min(losses))]
    plot(losses, lowest / 10, path)
    return (
        f"{path}: the loss is lowest, {min(losses):.3g}, at a learning rate of {lowest:.1e}.\n"
        f"Suggestion: learning_rate {lowest / 10:.1e}, or up to {lowest / 3:.1e} as the peak of a "
        f"schedule with warm-up; now {max(before):.1e}."
    )


def plot(losses: list[float], suggestion: float, path: Path) -> None:
    """Draw the smoothed loss over the learning rate, with the suggestion as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(RATES[: len(losses)], losses)
    axes.axvline(suggestion, color="C1", linestyle="--", label=f"suggestion: {suggestion:.1e}")
    low, fall = min(losses), losses[0] - min(losses)
    axes.set(title="Learning-rate range test", ylim=(low - 0.1 * fall, low + 1.5 * fall + 1e-3))
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, running mean")
    axes.legend()
    figure.savefig(path, dpi=120)
