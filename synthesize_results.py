"""Gather the runs below a folder into a table, a page with plots, and comparisons.

python synthesize_results.py --parent_dir experiments
"""

import argparse
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from core.base.errors import UsageError
from core.base.files import write_text
from core.machine.outcome import Outcome
from core.machine.script import reports_errors
from core.results import comparison, tables
from core.results.gathering import gather
from core.results.page.data import make_page, page_data
from core.results.plots import draw
from core.results.rows import best_setting, find_row, group


def get_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parent_dir", type=Path, default=Path("experiments"))
    parser.add_argument("--split", default="val", help="val (default), test or train")
    parser.add_argument("--params", default="differ", help="differ (default), all, or name,name")
    parser.add_argument("--sort", metavar="COLUMN", help="default: the metric that picks the best")
    parser.add_argument("--reverse", action="store_true", help="reverse the order")
    parser.add_argument(
        "--average_over",
        metavar="KEY",
        help="average runs that differ in this param, such as fold, as those of several seeds",
    )
    parser.add_argument("--no_group", action="store_true", help="show every seed in a row")
    parser.add_argument(
        "--intervals",
        type=int,
        default=5,
        metavar="N",
        help="rows with a 95%% interval, from the top (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=60,
        metavar="S",
        help="seconds that slow metrics may take (default: %(default)s)",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--compare", nargs=2, metavar=("A", "B"), help="is A better than B?")
    choice.add_argument("--diff", nargs=2, metavar=("A", "B"), help="how do two runs differ?")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    return parser.parse_args(argv)


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    args = get_args(argv)
    if not args.parent_dir.is_dir():
        raise UsageError(f"{args.parent_dir}: no such folder")
    runs = gather(args.parent_dir, args.split)
    if not any(run.is_run for run in runs):
        raise UsageError(f"{args.parent_dir}: no folder below it is a run")
    over = args.average_over.split(",") if args.average_over else []
    rows = group(runs, not (args.no_group or args.diff), over)
    if args.diff:
        a, b = (find_row(rows, name) for name in args.diff)
        print(comparison.differences(a.first, b.first))
        return 0
    if args.compare:
        a, b = (find_row(rows, name) for name in args.compare)
        if a is b:  # two seeds of one setting
            a, b = (find_row(group(runs, together=False), name) for name in args.compare)
        print(comparison.compare(a, b, args.split, args.seconds))
        return 0
    footnote = f"\n{tables.FOOTNOTE}\n" if any(row.stale for row in rows) else ""
    best = best_setting(rows)
    chosen = best and {"row": best[0].name, "run": best[1].name, "chosen": best[2]}
    if best and sum(row.first.is_run for row in rows) > 1:
        best[0].first.notes.insert(0, f"the best, {best[2]}")
    rows = tables.sort_rows(rows, tables.make_columns(rows, args.params), args.sort, args.reverse)
    comparison.add_intervals(rows[: args.intervals], args.split, args.seconds)
    columns = tables.make_columns(rows, args.params)
    visible = [column for column in columns if not column.fine]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(tables.terminal(visible, width) + footnote.rstrip())
    if width and chosen:  # a narrow terminal has no room for the notes
        print("The best run: {run}, chosen {chosen}".format(**chosen))
    shown = page_data(rows, visible, args.split, str(args.parent_dir))
    for name, text in [
        ("results.md", tables.markdown(visible) + footnote),
        ("results.csv", tables.comma_separated(columns)),
        ("results.tex", tables.latex(visible) + footnote.replace("†", "$\\dagger$")),
        ("results.json", tables.as_json(columns, split=args.split, best=chosen)),
        ("report.html", make_page(shown)),
    ]:
        write_text(args.parent_dir / name, text)
    try:
        with warnings.catch_warnings(action="ignore"):  # of letters that its font does not have
            draw(rows, args.split, args.parent_dir)
    except ImportError:
        print("No PNG plots: pip install matplotlib", file=sys.stderr)
    return Outcome(0, args.parent_dir, best[1].metrics if best else {})


if __name__ == "__main__":
    sys.exit(main())
