"""Search hyperparameters: one folder for every trial, which is a run like any other.

    python search_hyperparams.py --parent_dir experiments/learning_rate --jobs 2

`parent_dir` holds the base `params.json` and a `search.yaml` such as

    method: random            # grid, random, qmc, tpe or cmaes
    trials: 20
    space:
      learning_rate: {low: 1e-4, high: 1e-1, log: true}
      batch_size: [16, 32, 64]

The same command again goes on where a search was stopped or killed, and adds what is new in the
space. Started twice at once, the two share the trials; docs/search.md tells more.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from core.base.errors import UsageError, UserError, reports_errors
from core.base.keys import KEYS
from core.base.params import ROOT, Params, find_params_file, load_params, read_mapping
from core.machine.script import one_process_only
from core.machine.signals import Stop, end_workers
from core.search.locks import storage_errors
from core.search.space import Settings, read_settings
from core.search.study import Claim, Study, open_study
from core.search.workers import Job, Launcher, Screen, enter, make_folder, stop_all


def launch_training_job(
    parent_dir: str | Path, data_dir: str | Path | None, job_name: str, params: Params
) -> int:
    """Train `parent_dir/job_name` with `params` in a process of its own, or go on with it.

    Args:
        parent_dir: folder of the search.
        data_dir: folder of the data; None: what the params or the task say.
        job_name: name of the trial's folder.
        params: all that goes into its `params.json`.

    Returns:
        The exit code of `train.py`.
    """
    model_dir = Path(parent_dir) / job_name
    make_folder(model_dir, params)
    command = [sys.executable, str(ROOT / "train.py"), "--model_dir", str(model_dir)]
    if data_dir is not None:
        command += ["--data_dir", str(data_dir)]
    return subprocess.run(command, check=False).returncode


def train_trial(folder: Path, data_dir: str | None, gpu: str | None) -> None:
    """Train one run in a process that a search started; never returns."""
    enter(folder, gpu)
    import train

    try:
        where = [] if data_dir is None else ["--data_dir", data_dir]
        sys.exit(train.main(["--model_dir", str(folder), *where]))
    finally:
        end_workers()


class Search:
    """The trials that this process runs, `jobs` of them at once.

    Args:
        args: the command line.
        base: the params that all trials share.
        settings: what search.yaml says.
        study: the record of the search.
        metric: name of the validation metric that is judged.
        launcher: starts the processes.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        base: Params,
        settings: Settings,
        study: Study,
        metric: str,
        launcher: Launcher,
    ) -> None:
        from core.machine.devices import usable_cores

        self.args, self.base, self.settings, self.study = args, base, settings, study
        self.metric, self.launcher, self.screen = metric, launcher, Screen()
        self.num_threads = self.base.dict.get("num_threads") or max(1, usable_cores() // args.jobs)
        self.running: dict[int, Job] = {}  # by slot
        self.ended = {"complete": 0, "pruned": 0, "failed": 0}

    def run(self, stop: Stop) -> None:
        """Run trials until none is left; Stopped, after they have saved, if a signal comes."""
        try:
            while True:
                stop.check()
                self.study.locks.check()
                for slot in range(self.args.jobs):
                    if slot in self.running:
                        continue
                    if (claim := self.study.claim()) is None:
                        break
                    self.begin(slot, claim)
                if not self.running:
                    if self.study.done():
                        return
                    time.sleep(1)  # the last trials are in the hands of another search
                wait([job.process.sentinel for job in self.running.values()], timeout=0.5)
                for slot, job in list(self.running.items()):
                    if self.look_after(job):
                        del self.running[slot]
                self.screen.table(self.table())
                if (
                    self.ended["failed"] >= 3
                    and not sum(self.ended.values()) > self.ended["failed"]
                ):
                    raise UserError("the first three trials all failed; see above why")
        finally:
            stop_all(list(self.running.values()))

    def begin(self, slot: int, claim: Claim) -> None:
        """Make the folders of a trial, and start its first run."""
        seed = self.base.dict.get("seed", KEYS["seed"].default)
        seeds = [seed + i for i in range(self.settings.repeats)]
        names = [claim.name] if len(seeds) == 1 else [f"{claim.name}-seed_{s}" for s in seeds]
        folders = [self.args.parent_dir / name for name in names]
        params = self.base.dict | {"num_threads": self.num_threads} | claim.point
        gpu = self.args.gpus[slot % len(self.args.gpus)] if self.args.gpus else None
        epochs = params.get("num_epochs", KEYS["num_epochs"].default)
        job = Job(claim, folders, gpu, epochs)
        try:
            for folder, number in zip(folders, seeds, strict=True):
                repeat = {"seed": number} if len(seeds) > 1 else {}
                make_folder(folder, Params.of(params | repeat, folder))
        except (UsageError, OSError) as error:
            self.fail(job, str(error))
            return
        job.start(self.launcher, self.args.data_dir)
        self.running[slot] = job

    def look_after(self, job: Job) -> bool:
        """See how far a trial is; returns whether it has ended."""
        code = job.process.exitcode
        if self.settings.prune is not None:
            job.read()
            if self.is_to_be_pruned(job):
                stop_all([job])
                self.study.prune(job.claim)
                self.ended["pruned"] += 1
                self.screen.event(f"{job.claim.name}: stopped after epoch {len(job.rows)}, pruned")
                return True
        elif self.screen.live:
            job.read()
        if code is None:
            return False
        if code < 0 or code > 2:  # a signal ended it, or its fork server died
            if job.gives_up():
                self.fail(job, f"killed {job.kills} times without progress, last exit code {code}")
                return True
            job.start(self.launcher, self.args.data_dir)
            return False
        if code:
            self.fail(job, job.last_lines() or f"exit code {code}")
            return True
        if (value := job.result(self.metric)) is None:
            self.fail(job, f"no epoch had a validation {self.metric} that is a finite number")
            return True
        job.values.append(value)
        if len(job.values) < len(job.folders):
            job.start(self.launcher, self.args.data_dir)
            return False
        self.study.finish(job.claim, job.values)
        self.ended["complete"] += 1
        shown = " ".join(f"{value:.4f}" for value in job.values)
        self.screen.event(f"{job.claim.name}: {self.metric} {shown}")
        return True

    def is_to_be_pruned(self, job: Job) -> bool:
        """Compare the first seed's epochs so far with those of the other trials."""
        if job.values:
            return False
        before_the_last = job.rows[: job.num_epochs - 1]  # after it there is nothing to save
        values = [row.get(f"val_{self.metric}") for row in before_the_last]
        return self.study.is_to_be_pruned(job.claim, values)

    def fail(self, job: Job, why: str) -> None:
        """Note and print why a trial failed; its folder stays."""
        self.study.fail(job.claim, why)
        self.ended["failed"] += 1
        indented = why.replace("\n", "\n    ")
        self.screen.event(f"{job.claim.name}: failed, {job.folder / 'console.log'}\n    {indented}")

    def table(self) -> Iterator[str]:
        """Yield the lines that tell how far the search is."""
        trials = self.study.trials()
        ended = [t for t in trials if t.state.is_finished()]
        yield f"{len(ended)} of {self.study.size(trials)} trials have ended"
        for job in self.running.values():
            yield job.line(self.metric)
        values = {t.value: t.user_attrs["name"] for t in ended if t.state.name == "COMPLETE"}
        if values:
            best = max(values) if self.study.more_is_better else min(values)
            yield f"  best so far: {self.metric} {best:.4f}  {values[best]}"


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
    base_path = find_params_file(args.parent_dir)
    params, _ = load_params(base_path, {})
    # As JSON, which the record and the folders hold: YAML may have numbers for keys.
    base = Params.of(json.loads(json.dumps(read_mapping(base_path))), base_path)
    settings = read_settings(args.parent_dir / "search.yaml", base.dict)
    if args.data_dir is not None and "data_dir" in settings.space:
        raise UsageError("--data_dir: the space has a 'data_dir' of its own")
    modules = ["train", f"{params.task}.net", f"{params.task}.data_loader"]
    launcher = None if args.report else Launcher(train_trial, modules)

    from core.base.monitor import (  # imports torch, as the launcher does
        check_monitor,
        monitored_mode,
    )
    from core.search.report import report
    from core.task import load_task

    task = load_task(params.task)
    check_monitor(params, task)
    metric = params.monitor or ("accuracy" if "accuracy" in task.metrics else "loss")
    more_is_better = monitored_mode(params, metric) == "max"
    with (
        storage_errors(args.storage),
        open_study(args.parent_dir, args.storage, settings, base.dict, more_is_better) as study,
    ):
        if launcher is not None:
            if args.retry_failed:
                study.try_again()
            if not (ignored := args.parent_dir / ".gitignore").exists():
                ignored.write_text("# The folders of trials.\n/*/\n")
            stop = Stop()
            stop.training = True  # signals are noted, and looked at between two steps
            with stop.handling_signals():
                Search(args, base, settings, study, metric, launcher).run(stop)
        print(report(study, metric, args.parent_dir))
        return int(any(t.state.name == "FAIL" for t in study.trials()))


if __name__ == "__main__":
    sys.exit(main())
