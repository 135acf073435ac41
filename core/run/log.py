"""The log of a run, on the terminal and in a file, and its rows for TensorBoard."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.base.errors import UserError, printable

TERMINAL, FILE = "run's terminal", "run's file"  # names of the handlers of `open_log`
FORMATS = {TERMINAL: "%(message)s", FILE: "%(asctime)s:%(levelname)s: %(message)s"}


class _Plain(logging.Formatter):
    """Lets no name or text from outside give orders to a terminal, or look like a line of ours.

    A record with the attribute `short` is that text on the terminal, unless `verbose` is set.
    """

    verbose = False

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record; in the file those after the first are indented."""
        short = getattr(record, "short", None)
        if short is not None and not self.usesTime() and not self.verbose:
            return printable(short)
        if record.name == "py.warnings":  # "file:line: kind: text", and the line of code
            text = record.getMessage().partition(": ")[2].splitlines()[0]
            record = logging.makeLogRecord(vars(record) | {"msg": f"Note: {text}", "args": ()})
        text = printable(super().format(record)).replace("WARNING: WARNING: ", "WARNING: ")
        return text.replace("\n", "\n    ") if self.usesTime() else text


class _Terminal(logging.StreamHandler[Any]):
    """Writes what `report` was given to standard output, all else to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self.stream = sys.stdout if getattr(record, "report", False) else sys.stderr
        super().emit(record)


class _File(logging.FileHandler):
    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say once that the log cannot be written, as on a full disk; the run goes on."""
        if not self.failed:
            self.failed = True
            print(f"Note: {self.baseFilename}: {sys.exc_info()[1]}; the log ends", file=sys.stderr)


def report(text: str) -> None:
    """Log what a person asked for: on the terminal it goes to standard output."""
    logging.info("%s", text, extra={"report": True})


def open_log(path: str | Path | None, verbose: bool = False) -> None:
    """Send `logging.info(...)` and above to the terminal, and to the end of a file if given."""
    close_log()
    logging.getLogger().setLevel(logging.INFO)
    handlers: dict[str, logging.Handler] = {TERMINAL: _Terminal()}
    if path is not None:
        handlers[FILE] = _File(path, encoding="utf-8")
    for name, handler in handlers.items():
        handler.set_name(name)
        formatter = _Plain(FORMATS[name])
        formatter.verbose = verbose
        handler.setFormatter(formatter)
        logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)


def close_log() -> None:
    """Take down what open_log put in place."""
    logger = logging.getLogger()
    logging.captureWarnings(False)
    for handler in [handler for handler in logger.handlers if handler.name in FORMATS]:
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def logging_to(
    path: str | Path | None, verbose: bool = False, quiet: bool = False
) -> Iterator[None]:
    """Log to the terminal, unless `quiet`, and to a file if given; an exception that ends it, too.

    The exception goes to the file alone: whoever catches it tells the person at the terminal.
    """
    open_log(path, verbose)
    terminal = next(each for each in logging.getLogger().handlers if each.name == TERMINAL)
    terminal.setLevel(logging.CRITICAL + 1 if quiet else logging.NOTSET)
    try:
        yield
    except Exception as error:
        terminal.setLevel(logging.CRITICAL + 1)
        logging.error(error, exc_info=not isinstance(error, UserError | OSError))
        raise
    finally:
        close_log()


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Return "accuracy: 0.935, loss: 0.212"."""
    return ", ".join(f"{printable(name, '')}: {value:.4g}" for name, value in metrics.items())
