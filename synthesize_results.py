"""Gather the runs below a folder into a table, a page with plots, and comparisons.

python synthesize_results.py --parent_dir experiments
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.base.errors import UsageError
from core.machine.outcome import Outcome
from core.machine.script import answers_in_json, reports_errors
from core.results import comparison, sequential, tables
from core.results.gathering import gather
from core.results.intervals import add_intervals
from core.results.report import show, write_files
from core.results.rows import Row, best_setting, find_row, find_run, group, main_metric
from core.results.writing import Latex


def get_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add, flag = parser.add_argument, dict[str, Any](action="store_true")
    add("--parent_dir", type=Path, default=Path("experiments"))
    add("--split", default="val", help="val (default), test or train")
    add("--columns", metavar="NAMES", help="the columns of the table, as run,accuracy,seed")
    add("--params", default="differ", help="columns of params: differ (default), all, name,name")
    add("--sort", metavar="COLUMN", help="default: the metric that picks the best")
    add("--reverse", **flag, help="reverse the order")
    told = "average runs that differ in this param, such as fold, as those of several seeds"
    add("--average_over", metavar="KEY", help=told)
    add("--no_group", **flag, help="show every seed in a row")
    told = "rows with a 95%% interval, from the top (default: all)"
    add("--intervals", type=int, metavar="N", help=told)
    told = "seconds that slow metrics may take (default: %(default)s)"
    add("--seconds", type=float, default=60, metavar="S", help=told)
    add("--json", **flag, help="print one JSON object: all that the page shows, or a comparison")
    look = parser.add_argument_group("how it looks, in results.md and results.tex")
    look.add_argument("--percent", **flag, help="show fractions as percent")
    look.add_argument("--decimals", type=int, metavar="N", help="default: from the deviations")
    told = "the best of each metric in bold, unless chance explains its lead"
    look.add_argument("--bold", choices=["best"], help=told)
    look.add_argument("--booktabs", **flag, help="LaTeX with the rules of booktabs")
    look.add_argument("--siunitx", **flag, help="LaTeX with the number columns of siunitx")
    look.add_argument("--caption", default="", help="LaTeX: a table with this caption")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--compare", nargs=2, metavar=("A", "B"), help="is A better than B?")
    choice.add_argument("--diff", nargs=2, metavar=("A", "B"), help="how do two runs differ?")
    add("--until_decided", **flag, help="with --compare: train seeds of both until it is")
    told = "of --until_decided: seeds of each at most (default: %(default)s)"
    add("--most_seeds", type=int, default=20, metavar="N", help=told)
    add("--jobs", type=int, default=1, help="runs at a time (default: %(default)s)")
    add("--traceback", **flag, help="show where an error came from")
    args = parser.parse_args(argv)
    if args.until_decided and not args.compare:
        parser.error("--until_decided: want --compare A B")
    if args.decimals is not None and not 0 <= args.decimals <= 15:
        parser.error("--decimals: want 0 to 15")
    return args


@answers_in_json
@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code: 3 if --until_decided did not decide."""
    args = get_args(argv)
    runs = gather(args.parent_dir, args.split)
    over = args.average_over.split(",") if args.average_over else []
    rows = group(runs, not args.no_group, over)
    rows = tables.sort_rows(rows, args.sort, args.reverse)
    if args.diff:
        print(told := comparison.differences(*(find_run(rows, name) for name in args.diff)))
        return Outcome(0, args.parent_dir, {}, differences=told.splitlines())
    if args.compare:
        return compare(args, rows)
    waiting = [row for row in rows if row.first.status == "not started"]
    rows = [row for row in rows if row not in waiting] or rows
    best = best_setting(rows)
    chosen = best and {"row": best[0].name, "run": best[1].name, "chosen": best[2]}
    if best and sum(row.first.is_run for row in rows) > 1:
        best[0].first.notes.insert(0, f"the best, {best[2]}")
    chance = add_intervals(rows, args.split, args.seconds, args.intervals)
    bold = frozenset(chance.bold(rows) if args.bold else ())
    style = tables.Style(args.percent, args.decimals, bold)
    columns = tables.make_columns(rows, "all" if args.columns else args.params, style)
    if args.columns:
        columns = tables.chosen(columns, args.columns)
    facts = {"split": args.split, "best": chosen, "missing": chance.missing, "looks": chance.looks}
    facts |= {"luck": chance.winners_luck(rows, main_metric(rows) or "", args.split)}
    facts |= {"not_started": [row.name for row in waiting if row not in rows]}
    latex = Latex(args.booktabs, args.siunitx, args.caption)
    found = write_files(args.parent_dir, rows, columns, latex, facts)
    show(rows, columns, facts)
    return Outcome(0, args.parent_dir, best[1].metrics if best else {}, **found)


def compare(args: argparse.Namespace, rows: list[Row]) -> int:
    """Print a comparison; returns the exit code."""
    a, b = (find_row(rows, name) for name in args.compare)
    if a is b:  # two seeds of one setting
        a, b = (Row([find_run(rows, name)]) for name in args.compare)
        if a.first is b.first:
            raise UsageError(f"--compare: {args.compare[1]} is the same; want two runs or settings")
    if args.until_decided:
        if args.split != "val":
            raise UsageError("--until_decided: want --split val, which training evaluates")
        found = sequential.until_decided(a, b, args.most_seeds, args.jobs)
        print(sequential.as_text(found))
        return Outcome(0 if found["verdict"] else 3, args.parent_dir, {}, **found)
    found = comparison.compare(a, b, args.split, args.seconds)
    print(comparison.as_text(found))
    return Outcome(0, args.parent_dir, {}, compared=found.pop("metrics"), **found)


if __name__ == "__main__":
    sys.exit(main())
