"""Successive halving that stops trials and goes on with the best, without waiting for the others.

Li et al. 2020 (ASHA) promote a trial that is among the best so far, so that what is promoted
depends on who was faster. Here a place among the best must be certain: as many trials are known to
be worse as will stay behind. The trials that go on are then those of synchronous halving (Jamieson
& Talwalkar 2016), however many processes there are and whenever one is killed, and a free slot
waits for others only if nothing is certain.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from core.search.settings import Settings
from core.search.space import Point


@dataclass(frozen=True)
class Curve:
    """How far a trial is.

    `values` are those of its finished epochs, where more is better, -inf if not finite. It may
    train until `goal`; `over` says that it has ended: it is complete, or failed.
    """

    values: Sequence[float]
    goal: int
    over: bool
    point: Point
    decisions: Sequence[tuple[int, int]] = ()  # freeze_thaw's: the number of each, and its goal

    @property
    def paused(self) -> bool:
        """Whether it waits to be promoted."""
        return not self.over and len(self.values) >= self.goal

    def best(self, epochs: int) -> float:
        """Return the best value of the first epochs."""
        return max(self.values[:epochs], default=-math.inf)


@dataclass(frozen=True)
class Step:
    """What is trained next: the trial at `index`, or a new one (None), until epoch `goal`.

    A new trial is of `point`, if it is not None, else of the next one that the method gives.
    """

    index: int | None
    goal: int
    point: Point | None = None


def sizes(settings: Settings, total: int) -> list[tuple[int, int]]:
    """Return each rung of halving `total` trials: its epoch, and how many trials train until it."""
    after, factor = settings.rungs
    epochs, count = [after], total
    while epochs[-1] * factor < settings.epochs:
        epochs.append(epochs[-1] * factor)
    found = []
    for epoch in [*epochs, settings.epochs] if after < settings.epochs else [settings.epochs]:
        found.append((epoch, count))
        count = max(1, count // factor)
    return found


def planned_epochs(settings: Settings, total: int) -> int:
    """Return how many epochs halving `total` trials takes in all."""
    rungs = [(0, 0), *sizes(settings, total)]
    return sum(count * (epoch - before) for (before, _), (epoch, count) in pairwise(rungs))


def next_step(settings: Settings, curves: Sequence[Curve], total: int) -> Step | None:
    """Return a promotion that is certain, from the highest rung; else a new trial, if one is left.

    A pure function of the trials there are; None if there is nothing to do now.
    """
    members, promotions = list(range(len(curves))), list[Step]()
    for (epoch, count), (further, places) in pairwise(sizes(settings, total)):
        known = [i for i in members if curves[i].over or len(curves[i].values) >= epoch]
        known.sort(key=lambda i: (-curves[i].best(epoch), i))
        behind = count - places  # so many trials of this rung will be worse than the last place
        members = known[: max(0, min(places, len(known) - behind))]
        due = [i for i in members if curves[i].paused and curves[i].goal < further]
        promotions += [Step(i, further) for i in due]
    if promotions:
        return promotions[-1]
    return Step(None, sizes(settings, total)[0][0]) if len(curves) < total else None
