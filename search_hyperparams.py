"""Search hyperparameters: one folder for every trial, which is a run like any other.

    python search_hyperparams.py --parent_dir experiments/learning_rate --jobs 2

`parent_dir` holds the base `params.json` and a `search.yaml` such as

    method: random            # or grid, qmc, tpe, gp, asha ...
    trials: 20
    space:
      learning_rate: {low: 1e-4, high: 1e-1, log: true}
      batch_size: [16, 32, 64]

The same command resumes a search that was stopped or killed, and adds what is new in the space.
Started twice at once, the two share the trials; docs/search.md tells more.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from core.base.errors import UsageError
from core.base.keys import naming_source
from core.base.monitor import check_monitor, monitored
from core.base.params import ROOT, Params, check_values, find_params_file, load_params
from core.base.parsing import read_mapping
from core.machine.outcome import Outcome
from core.machine.script import one_process_only, reports_errors
from core.machine.signals import end_workers
from core.search.workers import Launcher, enter, make_folder


def launch_training_job(
    parent_dir: str | Path, data_dir: str | Path | None, job_name: str, params: Params
) -> int:
    """Train `parent_dir/job_name` with `params` in a process of its own, or go on with it.

    Without a `data_dir` it is that of the params or the task. Returns the exit code of `train.py`.
    """
    model_dir = Path(parent_dir) / job_name
    make_folder(model_dir, params)
    command = [sys.executable, str(ROOT / "train.py"), "--model_dir", str(model_dir)]
    if data_dir is not None:
        command += ["--data_dir", str(data_dir)]
    return subprocess.run(command, check=False).returncode


def train_trial(
    folder: Path, data_dir: str | None, gpu: str | None, goal: int | None, start_method: str
) -> None:
    """Train one run in a process that a search started, until epoch `goal`; never returns."""
    enter(folder, gpu, start_method)
    import train

    try:
        where = [] if data_dir is None else ["--data_dir", data_dir]
        where += [] if goal is None else ["--stop_after", str(goal)]
        sys.exit(train.main(["--model_dir", str(folder), *where]))
    finally:
        end_workers()


def get_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parent_dir", type=Path, default=Path("experiments/learning_rate"))
    parser.add_argument("--data_dir", help="default: what the params or the task say")
    parser.add_argument("--jobs", type=int, help="trials at once; default: one, or one a GPU")
    parser.add_argument("--gpus", default="", help="numbers of GPUs that the trials share: 0,1")
    parser.add_argument("--storage", help="postgresql://..., to search from several machines")
    parser.add_argument("--report", action="store_true", help="only tell what the search has found")
    parser.add_argument("--retry_failed", action="store_true", help="run failed trials again")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    args = parser.parse_args(argv)
    args.gpus = [gpu for gpu in args.gpus.split(",") if gpu]
    args.jobs = max(1, len(args.gpus)) if args.jobs is None else args.jobs
    if args.jobs < 1:
        raise UsageError(f"--jobs is {args.jobs}, want at least 1")
    return args


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns 1 if a trial failed."""
    args = get_args(argv)
    one_process_only("search_hyperparams.py")

    path = find_params_file(args.parent_dir)
    params, _ = load_params(path, {})
    base = json.loads(json.dumps(read_mapping(path)))  # YAML may have numbers for keys
    modules = ["train", "numpy.random", f"{params.task}.net", f"{params.task}.data_loader"]
    launcher = None if args.report else Launcher(train_trial, modules)  # it imports torch meanwhile
    from core.search.settings import read_goals, read_settings  # imports Optuna: no trial needs it

    settings = read_settings(args.parent_dir / "search.yaml", base)
    check_values({"data_dir": args.data_dir}, "--data_dir")
    if args.data_dir is not None and "data_dir" in settings.space:
        raise UsageError("--data_dir: the space has a 'data_dir' of its own")

    from core.run.code import import_task  # imports torch, as the launcher does
    from core.search import loop, report, study

    metrics = import_task(params).metrics
    with naming_source(path, ()):
        check_monitor(params.dict, metrics)
        goals = read_goals(settings, *monitored(params.dict, metrics), metrics)
    with study.open_study(args.parent_dir, args.storage, settings, goals) as opened:
        if launcher is not None:
            if args.retry_failed:
                opened.try_again()
            loop.Search(args, opened, launcher).run()
        print(report.report(opened, args.parent_dir))
        return Outcome(opened.has_failed(), args.parent_dir, opened.best())


if __name__ == "__main__":
    sys.exit(main())
