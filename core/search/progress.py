"""What a search shows while it runs: a line for each trial that has ended, and a bar below."""

import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from core.search.space import compact, short_keys

WIDTH = 38  # letters of a trial's name
BAR = "{n} of {total} trials  {percentage:3.0f}%{told}"  # ...  25%  best 0.926  4:10 left


def label(number: int, point: Mapping[str, Any], seed: int | None = None) -> str:
    """Return a trial's name for people: `#17 lr=5e-3 dropout=.05`, of a seed `#17 seed=231 ...`."""
    keys = short_keys(point).items()
    parts = [f"{key}={compact(point[name])}" for name, key in keys]
    text = " ".join([f"#{number}", *([] if seed is None else [f"seed={seed}"]), *parts])
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."


def clock(seconds: float) -> str:
    """Return 4:10 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def row(name: str, value: str, took: str, left: str, star: str = "") -> str:
    """Return a line of the table, of at most 80 letters."""
    return f"{name:<{WIDTH}}  {value[:12]:>12}  {took:>9}  {left:>9}  {star}".rstrip()


class Progress:
    """The table of the trials that end while this process searches, and the bar below it.

    Args:
        metric: its name, which is a column.
        more: whether more of it is better.
    """

    def __init__(self, metric: str, more: bool) -> None:
        self.metric, self.sign = metric, 1 if more else -1
        self.began, self.best = time.monotonic(), -float("inf")
        self.ended, self.trained = 0, 0  # trials and their epochs, of this process
        self.parts: dict[int, int] = {}  # epochs of running trials, by slot
        self.headed = False
        self.bar = Bar(desc="Trial", total=1, leave=False, disable=None, file=sys.stdout)
        self.bar.bar_format = BAR

    def left(self, left: int) -> str:
        """Return the time that so many epochs will take, if this process goes on alone."""
        parts = sum(self.parts.values())
        if self.trained + parts == 0:
            return "0:00" if left == 0 else "?"
        each = (time.monotonic() - self.began) / (self.trained + parts)
        return clock(each * max(0, left - parts))

    def tell(
        self,
        number: int,
        point: Mapping[str, Any],
        words: str,
        took: float,
        seed: int | None = None,
        **of: int,
    ) -> None:
        """Print the line of a trial that has ended or pauses; `of` holds what `show` takes.

        `words` are its value, or how else it ended, and in further lines why. A further `seed` of a
        trial has a line of its own, and is no new best.
        """
        value = words.partition("\n")[0]
        try:
            worth = self.sign * float(value.partition(" @")[0])
            star = "*" if worth > self.best and seed is None else ""
            self.best = self.best if seed is not None else max(worth, self.best)
        except ValueError:
            star = ""
        shown = self.left(of["left"])
        with tqdm.external_write_mode(file=sys.stdout):  # above the bars
            if not self.headed:
                print(row("trial", self.metric, "time", "time left"))
            self.headed = True
            print(row(label(number, point, seed), value, clock(took), shown, star), flush=True)
            if why := words.partition("\n")[2]:
                print("    " + why.replace("\n", "\n    "), flush=True)

    def show(self, total: int, over: int, paused: int, left: int) -> None:
        """Draw the bar: trials, those that are over or paused, and the epochs left."""
        self.bar.n, self.bar.total = over, total
        best = self.best * self.sign
        told = f"  {paused} paused" if paused else ""
        told += f"  best {best:.4g}" if abs(best) != float("inf") else ""
        self.bar.told = f"{told}  {self.left(left)} left"
        self.bar.refresh()

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()


class Bar(tqdm):
    """A bar with words at its end."""

    told = ""

    @property
    def format_dict(self) -> dict[str, Any]:
        """Return what stands in BAR."""
        return {**super().format_dict, "told": self.told}
