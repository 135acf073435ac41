"""The loop of a search: claims trials, has them trained, looks after them until none is left."""

import math
import signal
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Generator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from optuna import TrialPruned
from optuna.trial import TrialState
from tqdm import tqdm

from core.base import files, parsing
from core.base.errors import Stopped, UserError
from core.base.keys import DEFAULTS
from core.base.params import Params, laid_over
from core.machine.environment import usable_cores
from core.machine.signals import Stop
from core.search.progress import Progress
from core.search.record import Claim, state_of
from core.search.study import Study
from core.search.workers import CONSOLE, STOPPING, Launcher, make_folder, stop_all

TOLD = f"{{}}: trials in progress save and end, those that take more than {STOPPING:.0f} s are "
TOLD += "killed (Ctrl-C again: at once); the same command resumes them"
PAUSED = 128 + 10  # exit code of a run that stopped after the epoch that it was to
FRUITLESS = 3  # kills in a row without a new checkpoint, after which a trial is given up


class Search:
    """The trials that this process runs, `--jobs` of them at once, each in a slot of its own."""

    def __init__(self, args: Namespace, study: Study, metric: str, launcher: Launcher) -> None:
        self.args, self.study, self.metric, self.launcher = args, study, metric, launcher
        self.jobs: dict[int, Generator[None, None, None]] = {}  # by slot
        self.processes: dict[int, Any] = {}  # by slot
        self.failed = 0  # trials of this process
        self.progress = Progress(metric, study.more_is_better)

    def run(self) -> None:
        """Run trials until none is left; Stopped, after they have saved, if a signal comes."""
        if not (ignored := self.args.parent_dir / ".gitignore").exists():
            ignored.write_text("# The folders of trials.\n/*/\n")
        stop = Stop()
        stop.training = True  # signals are noted, and looked at between two steps
        with stop.handling_signals():
            try:
                while self.step():
                    stop.check()
            except Stopped as stopped:
                signal.signal(signal.SIGINT, signal.default_int_handler)  # the next is no request
                with tqdm.external_write_mode(file=sys.stdout):
                    print(TOLD.format(stopped), flush=True)
                raise
            finally:
                stop_all(self.processes.values())
                for job in self.jobs.values():
                    job.close()
                self.progress.close()

    def step(self) -> bool:
        """Look after all jobs, start new ones, and wait a moment; False if nothing is left."""
        self.study.locks.check()
        self.jobs = {slot: job for slot, job in self.jobs.items() if next(job, "ended") is None}
        if self.failed == self.progress.ended >= 3:
            raise UserError("the first three trials all failed; see above why")
        claim = None
        for slot in [slot for slot in range(self.args.jobs) if slot not in self.jobs]:
            if (claim := self.study.claim(self.args.jobs)) is None:
                break
            job = self.job(claim, slot)
            if next(job, "ended") is None:
                self.jobs[slot] = job
        if not self.progress.bar.disable:
            self.progress.show(**self.counts())
        if self.jobs:
            wait([process.sentinel for process in self.processes.values()], timeout=0.5)
        elif claim is None and "running" not in map(state_of, self.study.trials()):
            return False
        else:
            time.sleep(1)  # the last trials are in the hands of another search
        return True

    def job(self, claim: Claim, slot: int) -> Generator[None, None, None]:
        """Train a trial, one run for every seed; yields while there is nothing to do but wait."""
        values, began = list[float](), time.monotonic()
        runs = self.runs(claim)
        try:
            for folder, params in runs.items():
                make_folder(folder, Params.of(params, folder))
            for folder, params in runs.items():
                # The first seed alone decides whether the trial is pruned or paused.
                first = None if values else claim
                value = yield from self.train(folder, params, slot, first)
                if value is None:
                    break
                values.append(value)
            words = self.end(claim, next(iter(runs)), values, paused=value is None)
        except TrialPruned:
            stop_all([self.processes[slot]])
            self.study.end(claim, TrialState.PRUNED)
            words = "pruned"
        except UserError as error:
            self.study.end(claim, TrialState.FAIL, why=str(error))
            self.failed += 1
            words = f"failed\n{folder / CONSOLE}\n{error}"
        self.progress.trained += self.progress.parts.pop(slot, 0)
        self.progress.ended += 1
        self.processes.pop(slot, None)
        took = time.monotonic() - began
        self.progress.tell(claim.number, claim.point, words, took, **self.counts())

    def end(self, claim: Claim, folder: Path, values: list[float], paused: bool) -> str:
        """Note in the record how a trial has ended, or that it pauses; returns the words for it."""
        seen = [row.get(f"val_{self.metric}") for row in _rows(folder)]
        self.study.note(claim, seen)
        if paused:
            self.study.pause(claim)
            best = max((self.study.sign * v for v in seen if v is not None), default=-math.inf)
            return f"{best * self.study.sign:.4g} @{claim.goal}"
        mean = sum(values) / len(values)
        self.study.end(claim, TrialState.COMPLETE, mean, values=values)
        return f"{mean:.4g}"

    def runs(self, claim: Claim) -> dict[Path, dict[str, Any]]:
        """Return the folders of a trial's runs, one for every seed, with their params."""
        base, repeats = self.study.settings.base, self.study.settings.repeats
        folder = self.args.parent_dir / claim.name
        threads = base.get("num_threads") or max(1, usable_cores() // self.args.jobs)
        params = laid_over(base | {"num_threads": threads}, claim.point)
        if repeats == 1:
            return {folder: params}
        seeds = [base.get("seed", DEFAULTS["seed"]) + i for i in range(repeats)]
        return {Path(f"{folder}-seed_{seed}"): params | {"seed": seed} for seed in seeds}

    def train(
        self, folder: Path, params: dict[str, Any], slot: int, claim: Claim | None
    ) -> Generator[None, None, float | None]:
        """Train one run; returns its best value, or None if it stopped at the claim's goal.

        It goes on if it is killed. `claim` is None for further seeds of a trial.

        Raises:
            TrialPruned: the trial is worse than others.
            UserError: the run has ended without a value.
        """
        gpu = self.args.gpus[slot % len(self.args.gpus)] if self.args.gpus else None
        epochs = params.get("num_epochs", DEFAULTS["num_epochs"])
        goal = None if claim is None else claim.goal
        prune = self.study.settings.prune is not None
        kills, saved, path, before = 0, 0, folder / "last.pt", len(_rows(folder))
        trained = self.progress.parts.get(slot, 0)
        with _bar(folder.name, unit="epoch", total=epochs, initial=before) as bar:
            while kills < FRUITLESS:
                process = self.launcher.start(folder, self.args.data_dir, gpu, goal)
                self.processes[slot], code = process, None
                while code is None:
                    yield
                    code = process.exitcode
                    values = [row.get(f"val_{self.metric}") for row in _rows(folder)]
                    # After the last epoch there is nothing to save.
                    if claim and prune and self.study.note(claim, values[: epochs - 1], True):
                        raise TrialPruned(f"stopped after epoch {len(values)}, pruned")
                    self.progress.parts[slot] = trained + max(0, len(values) - before)
                    bar.n, value = len(values), values[-1] if values else None
                    bar.set_postfix_str("" if value is None else f"{self.metric} {value:.4f}")
                if 0 <= code <= 2:
                    return self.result(folder, code)
                if code == PAUSED and goal is not None and len(values) >= goal:
                    return None
                # A signal ended it, or its fork server died.
                last, saved = saved, path.stat().st_mtime_ns if path.exists() else 0
                kills = kills + 1 if saved == last else 1
        raise UserError(f"killed {kills} times without progress, last exit code {code}")

    def result(self, folder: Path, code: int) -> float:
        """Return the best value of a run that has ended; UserError says why there is none."""
        console, best = folder / CONSOLE, folder / "metrics_val_best_weights.json"
        if code:
            said = console.read_text("utf-8", "replace").splitlines() if console.exists() else []
            raise UserError("\n".join(said[-5:]) or f"exit code {code}")
        value = parsing.read_mapping(best).get(self.metric) if best.exists() else None
        if value is None:
            raise UserError(f"no epoch had a validation {self.metric} that is a finite number")
        return float(value)

    def counts(self) -> dict[str, int]:
        """Return how many trials there are, how many are over and paused, and the epochs left."""
        trials = self.study.trials()
        states = Counter(map(state_of, trials))
        paused = states["paused"]
        over = len(trials) - paused - states["running"]
        left = self.study.epochs_left(trials)
        return {"total": self.study.size(trials), "over": over, "paused": paused, "left": left}


def _bar(name: str, **more: Any) -> tqdm:
    """Return a bar, which is drawn on a terminal only."""
    return tqdm(desc=name[:60], leave=False, disable=None, file=sys.stdout, **more)


def _rows(folder: Path) -> list[dict[str, Any]]:
    """Read the epochs that a run has finished."""
    path = folder / "metrics.jsonl"
    return files.parse_rows(path.read_bytes())[0] if path.exists() else []
