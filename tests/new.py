"""Begin a task of one's own from the smallest one, tests/projects/minimal.

    python tests/new.py NAME [--only]        or: make new NAME=birds [ONLY=1]

Makes model/NAME, experiments/NAME, data/NAME and tests/tasks/NAME. --only removes the examples.
"""

import argparse
import json
import keyword
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("model", "experiments", "data", "tests/tasks")
PARAMS = {"batch_size": 10, "num_epochs": 20, "learning_rate": 0.01, "width": 16}
ENTRY = """from tests.projects.registry import Project

PROJECT = Project(task="model.{}", params={{"width": 8}})
"""
SIGNS = ["model/net.py", "model/data_loader.py", "data/signs", "tests/tasks/signs"]
SIGNS += ["experiments/base_model", "experiments/learning_rate"]


def main() -> int:
    """Run the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", help="of the package in model/")
    parser.add_argument("--only", action="store_true", help="remove the three example tasks")
    args = parser.parse_args()
    if not args.name.isidentifier() or keyword.iskeyword(args.name):
        parser.error(f"{args.name!r} cannot name a package; want letters, digits and _")
    model, run, data, tests = (ROOT / place / args.name for place in PLACES)
    for path in (model, model.with_suffix(".py"), run, tests):
        if path.exists():
            parser.error(f"{path.relative_to(ROOT)} exists; choose another name")
    names = [*SIGNS, *(f"{place}/{task}" for task in ("ner", "cifar10") for place in PLACES)]
    examples = [ROOT / name for name in names if args.only and (ROOT / name).exists()]
    for path in examples:
        if path.suffix and not path.read_text(encoding="utf-8").startswith('"""Hand signs'):
            parser.error(f"{path} no longer holds the hand signs; move it to a folder of its own")
        if found := next(path.rglob("last.pt"), None):
            parser.error(f"{found.parent} holds a run; move it away, or delete it")
    for path in examples:
        path.unlink() if path.suffix else shutil.rmtree(path)
    shutil.copytree(ROOT / "tests/projects/minimal", model, ignore=shutil.ignore_patterns("__pyc*"))
    loader = model / "data_loader.py"
    loader.write_text(loader.read_text().replace("data/minimal", f"data/{args.name}"))
    for path in (run, data, tests):
        path.mkdir(parents=True, exist_ok=True)
    params = json.dumps({"task": f"model.{args.name}"} | PARAMS, indent=4)
    (run / "params.json").write_text(f"{params}\n")
    (tests / "project.py").write_text(ENTRY.format(args.name))
    print(f"Edit model/{args.name}/, then: python train.py --model_dir experiments/{args.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
