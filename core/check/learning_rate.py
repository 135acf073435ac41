"""A learning-rate range test (Smith 2017, section 3.3): the loss while the rate grows."""

import math
from pathlib import Path

from core.base.errors import NumericError
from core.check.subject import NotApplicableError, Subject

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 120
KEPT = 0.9  # of the running mean, from step to step


def find_lr(subject: Subject, path: Path) -> str:
    """Train with a rate that grows by a factor every step, and plot the loss.

    The suggestion is a tenth of the rate at which the smoothed loss is lowest: a rule of thumb, to
    be held against the plot. The test ends where the loss has risen to four times its lowest.

    Args:
        subject: whose net and training batches are used; the run's own batch size.
        path: of the picture, a PNG.

    Returns:
        What was found, as a sentence.

    Raises:
        NotApplicableError: there are several optimizers.
    """
    state = subject.fresh(constant_rate=True, batch_size=subject.state.params.batch_size)
    if len(state.optimizers) > 1:
        raise NotApplicableError("--find_lr: the task has several optimizers")
    (optimizer,) = state.optimizers.values()
    before = {id(group): group["lr"] for group in optimizer.param_groups}
    base = max(before.values())
    rates: list[float] = []
    losses: list[float] = []
    mean, epoch, batches = 0.0, 0, subject.own_loaders["train"].epoch(0)
    for i in range(STEPS):
        rate = LOWEST * (HIGHEST / LOWEST) ** (i / (STEPS - 1))
        for group in optimizer.param_groups:  # groups keep their proportions
            group["lr"] = rate * before[id(group)] / base
        if (batch := next(batches, None)) is None:
            epoch += 1
            batches = subject.own_loaders["train"].epoch(epoch)
            batch = next(batches)
        try:
            loss = subject.step(state, batch)["loss"].item()
        except NumericError:
            break
        if not math.isfinite(loss):
            break
        mean = KEPT * mean + (1 - KEPT) * loss
        rates.append(rate)
        losses.append(mean / (1 - KEPT ** (i + 1)))  # not biased to the 0 it began with
        if losses[-1] - min(losses) > 3 * abs(min(losses)):
            break
    if not losses:
        raise NumericError("--find_lr: the first loss is not finite")
    lowest = rates[losses.index(min(losses))]
    plot(rates, losses, lowest / 10, path)
    return (
        f"{path}: the loss is lowest, {min(losses):.3g}, at a learning rate of {lowest:.1e}.\n"
        f"Suggestion: learning_rate {lowest / 10:.1e}, or up to {lowest / 3:.1e} as the peak of a "
        f"schedule with warm-up; now {base:.1e}."
    )


def plot(rates: list[float], losses: list[float], suggestion: float, path: Path) -> None:
    """Draw the smoothed loss over the learning rate, with the suggestion as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses)
    axes.axvline(suggestion, color="C1", linestyle="--", label=f"suggestion: {suggestion:.1e}")
    low, first = min(losses), losses[0]
    axes.set_ylim(low - 0.1 * (first - low), first + 0.5 * (first - low) + 1e-3)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss, running mean")
    axes.set_title("Learning-rate range test")
    axes.legend()
    figure.savefig(path, dpi=120)
