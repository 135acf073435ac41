"""Errors that a user can act on, and how a script reports them."""

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar


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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the known name nearest to `name`, or "" if none is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f" (did you mean {near[0]!r}?)" if near else ""


def listed(items: Sequence[str], limit: int = 10) -> str:
    """Return the first `limit` items, one an indented line, then how many more there are."""
    lines = [f"  {item}" for item in items[:limit]]
    if len(items) > limit:
        lines.append(f"  ... and {len(items) - limit} more")
    return "\n".join(lines)


def _speaks(code: int) -> bool:
    """Tell whether this process, of those that torchrun started, is the one to tell the error."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return True
    from core.machine import processes as distributed  # imports this module, and torch

    return distributed.speaks(code)


Main = Callable[..., int]  # main(argv: Sequence[str] | None = None) -> exit code


def reports_errors(main: Main) -> Main:
    """Let a script's `main` return the exit code of a UserError or OSError, with a short message.

    With --traceback on the command line the exception itself is raised. Any other exception is a
    fault of code, so it keeps its traceback. Of several processes the first to fail speaks.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except OtherProcessError:
            from core.machine import processes as distributed

            return distributed.exit_code_of_first_failure()
        except (UserError, OSError) as error:
            code = error.exit_code if isinstance(error, UserError) else 1
            if not _speaks(code):
                return code
            if "--traceback" in (sys.argv if argv is None else argv):
                raise
            print(f"error: {error}", file=sys.stderr)
            return code
        except Stopped as stopped:  # before there was anything to save
            return stopped.exit_code
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except Exception as error:
            if not _speaks(1):
                return 1
            if Path(sys.argv[0]).name == "train.py":
                error.add_note("check.py tries the net and its loaders, and says what is wrong.")
            raise

    return wrapped
