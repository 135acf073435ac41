"""Use the best checkpoint of a run on new images, folders or lines of text, or export its net.

    python predict.py --model_dir experiments/base_model photograph.jpg folder
    python predict.py --model_dir experiments/ner - < sentences.txt

A task may say in a function `predict` of its net.py what an answer is. Without it: the class, where
the net scores classes, else the net's numbers.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.base.errors import DataError, listed, plural
from core.machine.devices import start
from core.machine.outcome import Outcome
from core.machine.script import answers_in_json, common_parser, reports_errors
from core.predict.answers import answer, as_text, predict, read_inputs
from core.predict.own_answers import write_files
from core.run.restoring import restore


def get_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = common_parser(__doc__)
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="a file or folder; - is stdin")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for files of answers")
    parser.add_argument("--restore_file", default="best", help="best (default), last or a path")
    parser.add_argument("--jsonl", action="store_true", help="a JSON object a line, not a table")
    parser.add_argument("--top", type=int, default=1, help="how many classes are shown")
    parser.add_argument("--batch_size", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--export", type=Path, metavar="FILE.pt2", help="write torch.export's file")
    args = parser.parse_args(argv)
    if min(args.top, args.batch_size) < 1:
        parser.error("--top and --batch_size: want 1 or more")
    if bool(args.inputs) == bool(args.export):
        parser.error("want either INPUTs or --export FILE.pt2")
    if not any(setting.startswith("compile=") for setting in args.settings):
        args.settings = [*args.settings, "compile=false"]  # it takes longer than most inputs do
    return args


@answers_in_json
@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code, 1 if an input could not be read."""
    args = get_args(argv)
    restored = restore(args.model_dir, args.restore_file, args.data_dir, args.settings)
    task, params = restored.task, restored.params
    if args.export:
        from core.predict.export import export  # torch.export takes seconds to import

        model, loader = restored.with_loader("val")
        print(export(model, loader, task, params, args.export))
        return Outcome(0, args.model_dir, {}, exported=str(args.export))
    model = restored.net(start(params))
    classes = task.class_names(params) if task.class_names else None
    faults, taken, answers = list[str](), set[str](), list[dict[str, Any]]()
    examples = read_inputs(task, args.inputs, params, faults)
    for name, outputs in predict(task, model, examples, params, args.batch_size):
        if task.predict is None:
            found = answer(name, outputs, restored.reading, classes, args.top)
        else:
            found = write_files({"name": str(name)} | outputs, args.output, taken)
        if args.json:
            answers.append(found)
        else:
            print(json.dumps(found) if args.jsonl else as_text(found))
    if faults and args.json:
        return Outcome(1, args.model_dir, {}, answers=answers, unreadable=faults)
    if faults:
        inputs = plural(len(faults), "input", "inputs")
        raise DataError(f"{inputs} could not be read:\n{listed(faults, 3)}")
    return Outcome(0, args.model_dir, {}, answers=answers)


if __name__ == "__main__":
    sys.exit(main())
