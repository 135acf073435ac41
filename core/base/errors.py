"""Errors that a user can act on, and helpers for their messages."""

import json
import signal
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar


class UserError(ValueError):
    """A fault outside the code, told in at most five lines without a traceback."""

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        """Return the message, without the traceback that a DataLoader's worker puts before it."""
        mark = f"{type(self).__module__}.{type(self).__qualname__}: "
        return super().__str__().rpartition(mark)[2].rstrip()


class UsageError(UserError):
    """The command line or a params file is wrong; nothing has been read or written yet."""

    exit_code = 2


class DataError(UserError):
    """A data set is missing, incomplete or damaged."""


class NumericError(UserError):
    """A loss or a metric is no longer a finite number."""


class OtherProcessError(UserError):
    """Another process of the same run has failed, and it is that one which says why."""


class Stopped(BaseException):  # not an error, and no `except Exception` may hold it
    """A signal asked the run to stop; `exit_code` is 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def did_you_mean(name: str, known: Iterable[str], alike: float = 0.75) -> str:
    """Return " (did you mean 'x'?)" for the known name nearest to `name`, or "" if none is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=alike)
    return f" (did you mean {near[0]!r}?)" if near else ""


def spelled(value: Any) -> str:
    """Return a value as a params file spells it, true, null, "text"; a long one is cut off."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def settings(values: Mapping[str, Any]) -> str:
    """Return "key=value, key=value", the values as --set takes them."""
    return ", ".join(f"{n}={v if isinstance(v, str) else spelled(v)}" for n, v in values.items())


def plural(count: int, one: str, many: str) -> str:
    """Return "1 file has" or "2 files have"."""
    return f"{count} {one if count == 1 else many}"


def printable(text: str, kept: str = "\n\t") -> str:
    """Return text without what a terminal would obey or cannot show, such as escape codes."""
    return "".join(c if c.isprintable() or c in kept else repr(c)[1:-1] for c in text)


def listed(items: Sequence[str], limit: int = 10) -> str:
    """Return the first `limit` items, one an indented line, then how many more there are."""
    lines = [f"  {printable(item, '')}" for item in items[:limit]]
    if len(items) > limit:
        lines.append(f"  ... and {len(items) - limit} more")
    return "\n".join(lines)
