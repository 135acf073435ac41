"""What all scripts share: their options, and how they report errors."""

import argparse
import contextlib
import functools
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from core.base.errors import OtherProcessError, Stopped, UsageError, UserError, printable
from core.machine.environment import launched
from core.machine.faults import print_short
from core.machine.outcome import Failure, as_json

Main = Callable[..., int]  # main(argv: Sequence[str] | None = None) -> exit code


def common_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with --model_dir, --data_dir, --set and --traceback.

    Args:
        doc: the script's docstring; its first line becomes the description.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument(
        "--model_dir",
        type=Path,
        default=Path("experiments/base_model"),
        help="folder of the run, with its params.json or params.yaml (default: %(default)s)",
    )
    parser.add_argument("--data_dir", help="default: that of the params, else the task's own")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="override a key of the params (repeatable)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, log on stderr")
    parser.add_argument("--verbose", action="store_true", help="show all that the log file gets")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    return parser


def one_process_only(script: str) -> None:
    """Refuse to be one of several processes."""
    if launched():
        raise UsageError(f"{script} is one process: start it without torchrun")


def _is_to_report(code: int) -> bool:
    """Tell whether this process, of those that torchrun started, is the one to report the error."""
    if not launched():
        return True
    from core.machine import processes  # imports torch

    return processes.fails_first(code)


def reports_errors(main: Main) -> Main:
    """Let a script's `main` return the exit code of a UserError or OSError, with a short message.

    An exception in the code of a task is told with the line of it. With --traceback on the command
    line the exception itself is raised, as are those of other code. Of several processes the first
    to fail reports.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of folders of its own
        try:
            return main(argv)
        except OtherProcessError:
            from core.machine import processes

            return processes.exit_code_of_first_failure()
        except BrokenPipeError:  # whoever read what is printed, such as head, has enough
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the end
            return 128 + signal.SIGPIPE
        except (UserError, OSError) as error:
            code = error.exit_code if isinstance(error, UserError) else 1
            if not _is_to_report(code):
                return code
            if "--traceback" in (sys.argv if argv is None else argv):
                raise
            with suppress(OSError):  # a terminal that is gone, a full disk
                print(f"error: {printable(str(error))}", file=sys.stderr)
            return Failure(code, error)
        except Stopped as stopped:
            return Failure(stopped.exit_code, f"stopped by {stopped}")
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return Failure(130, "interrupted")
        except Exception as error:
            if not _is_to_report(1):
                return 1
            whole = launched() or "--traceback" in (sys.argv if argv is None else argv)
            if not whole and print_short(error):
                return Failure(1, f"{type(error).__name__}: {error}")
            raise

    return wrapped


def answers_in_json(main: Main) -> Main:
    """Let a script's `main`, given --json, print one JSON object and nothing else on stdout.

    All else goes to stderr. The object holds `exit_code`, and `error` or what the script found; of
    several processes the first one prints it.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        if "--json" not in (sys.argv if argv is None else argv):
            return main(argv)
        code: int = Failure(1, "a fault in the code, whose traceback is on stderr")
        try:
            with contextlib.redirect_stdout(sys.stderr):
                code = main(argv)
        except SystemExit as error:
            code = Failure(error.code if isinstance(error.code, int) else 2, "the command line")
            raise
        finally:
            if os.environ.get("RANK", "0") == "0":
                print(as_json(code), flush=True)
        return code

    return wrapped
