"""Gather the runs below a folder into one table: their metrics and the params in which they differ.

python synthesize_results.py --parent_dir experiments
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UsageError, reports_errors
from core.files import write_text
from core.params import read_mapping
from core.run import recorded

PARAMS_FILES = ("params.json", "params.yaml")


@dataclass
class Row:
    """One run: its folder's name, what it is, its params and its metrics."""

    name: str
    status: str
    params: dict[str, Any]
    metrics: dict[str, Any]


def read_run(folder: Path, name: str, split: str) -> Row:
    """Read a folder that holds a params file; nothing that is damaged in it stops the table."""
    path = next(folder / name for name in PARAMS_FILES if (folder / name).exists())
    try:
        params = read_mapping(path) | recorded(folder).get("overrides", {})
    except UsageError:
        return Row(name, "unreadable params", {}, {})
    files = sorted(folder.glob(f"metrics_{split}_best*.json"))
    if not files:
        return Row(name, "no results", params, {})
    try:
        metrics = json.loads(files[-1].read_text(encoding="utf-8"))
    except ValueError:
        metrics = None
    if not isinstance(metrics, dict):
        return Row(name, "unreadable results", params, {})
    made_up = recorded(folder).get("data", {}).get("made_up")
    return Row(name, f"on {made_up}" if made_up else "", params, metrics)


def gather(parent_dir: Path, split: str) -> list[Row]:
    """Read every run below a folder, sorted by name; the base of a search is not a run."""
    found = {path.parent for name in PARAMS_FILES for path in parent_dir.rglob(name)}
    folders = [f for f in found if not (f / "search.yaml").exists() or (f / "train.log").exists()]
    return [
        read_run(folder, folder.relative_to(parent_dir).as_posix(), split)
        for folder in sorted(folders)
    ]


def differing_params(rows: Sequence[Row]) -> list[str]:
    """Return the names of the params that are not the same in every run."""
    names = dict.fromkeys(name for row in rows for name in row.params)
    return [
        name
        for name in names
        if any(row.params.get(name) != rows[0].params.get(name) for row in rows)
    ]


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of runs."""
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    params = differing_params(rows)
    header = ["run", *metrics, *params, "note"]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        shown = [row.metrics.get(name) for name in metrics]
        numbers = [f"{value:.4g}" if isinstance(value, float | int) else "" for value in shown]
        settings = [json.dumps(row.params[name]) if name in row.params else "" for name in params]
        lines.append([row.name, *numbers, *settings, row.status])
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parent_dir", type=Path, default=Path("experiments"))
    parser.add_argument("--split", default="val", help="val (default), test or train")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    args = parser.parse_args(argv)
    if not args.parent_dir.is_dir():
        raise UsageError(f"{args.parent_dir}: no such folder")
    rows = gather(args.parent_dir, args.split)
    if not rows:
        raise UsageError(f"{args.parent_dir}: no folder below it holds a params file")
    text = table(rows)
    print(text)
    write_text(args.parent_dir / "results.md", text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
