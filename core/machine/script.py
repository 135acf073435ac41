"""What the scripts share at their start: options, and whether torchrun started them."""

import argparse
import os
from pathlib import Path

from core.base.errors import UsageError


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
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    return parser


def launched() -> bool:
    """Tell whether torchrun started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


def one_process_only(script: str) -> None:
    """Refuse to be one of several processes."""
    if launched():
        raise UsageError(f"{script} is one process: start it without torchrun")
