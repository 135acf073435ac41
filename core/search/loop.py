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
from core.machine.environment import default_threads
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

    def __init__(self, args: Namespace, study: Study, launcher: Launcher) -> None:
        self.args, self.study, self.launcher = args, study, launcher
        self.jobs: dict[int, Generator[None, None, None]] = {}  # by slot
        self.processes: dict[int, Any] = {}  # by slot
        self.failed = 0  # trials of this process
        self.progress = Progress(study.metric, study.goals[study.metric])

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
        elif claim is None and not self.study.others_at_work():
            return False
        else:
            time.sleep(1)  # the last trials are in the hands of another search
        return True

    def job(self, claim: Claim, slot: int) -> Generator[None, None, None]:
        """Train a run of a trial; yields while there is nothing to do but wait."""
        began, (folder, params) = time.monotonic(), self.run_of(claim)
        try:
            make_folder(folder, Params.of(params, folder))
            values = yield from self.train(folder, params, slot, claim)
            words = self.end(claim, folder, values)
        except TrialPruned:
            stop_all([self.processes[slot]])
            self.study.end(claim, TrialState.PRUNED)
            words = "pruned"
        except UserError as error:
            if claim.seed:
                self.study.note_seed(claim, None)
            else:
                self.study.end(claim, TrialState.FAIL, why=str(error))
            self.failed += 1
            words = f"failed\n{folder / CONSOLE}\n{error}"
        self.progress.trained += self.progress.parts.pop(slot, 0)
        self.progress.ended += 1
        self.processes.pop(slot, None)
        took = time.monotonic() - began
        seed = params["seed"] if claim.seed else None
        self.progress.tell(claim.number, claim.point, words, took, seed, **self.counts())

    def end(self, claim: Claim, folder: Path, values: list[float] | None) -> str:
        """Note in the record how a run has ended, or that it pauses; returns the words for it."""
        if claim.seed and values is not None:
            self.study.note_seed(claim, values)
            return f"{values[0]:.4g}"
        seen = self.seen(folder)
        self.study.note(claim, seen)
        if values is None:
            self.study.pause(claim)
            sign = self.study.signs[0]
            best = max((sign * v for v in seen if v is not None), default=-math.inf)
            return f"{best * sign:.4g} @{claim.goal}"
        self.study.end(claim, TrialState.COMPLETE, values)
        return f"{values[0]:.4g}"

    def seen(self, folder: Path) -> list[Any]:
        """Return the values of the metric after each epoch that a run has finished."""
        return [row.get(f"val_{self.study.metric}") for row in _rows(folder / "metrics.jsonl")]

    def run_of(self, claim: Claim) -> tuple[Path, dict[str, Any]]:
        """Return the folder of a trial's run, and its params."""
        base, repeats = self.study.settings.base, self.study.settings.repeats
        folder = self.args.parent_dir / claim.name
        threads = base.get("num_threads")
        if threads in (None, "auto"):  # nothing is measured while other trials run
            threads = default_threads(self.args.jobs)
        params = laid_over(base | {"num_threads": threads}, claim.point)
        if repeats == 1:
            return folder, params
        seed = base.get("seed", DEFAULTS["seed"]) + claim.seed
        return Path(f"{folder}-seed_{seed}"), params | {"seed": seed}

    def train(
        self, folder: Path, params: dict[str, Any], slot: int, claim: Claim
    ) -> Generator[None, None, list[float] | None]:
        """Train one run; returns its best values, or None if it stopped at the claim's goal.

        It goes on if it is killed.

        Raises:
            TrialPruned: the trial is worse than others.
            UserError: the run has ended without a value.
        """
        gpu = self.args.gpus[slot % len(self.args.gpus)] if self.args.gpus else None
        epochs = params.get("num_epochs", DEFAULTS["num_epochs"])
        goal, prune = claim.goal, self.study.settings.prune is not None and not claim.seed
        kills, saved, path, before = 0, 0, folder / "last.pt", len(self.seen(folder))
        trained = self.progress.parts.get(slot, 0)
        with _bar(folder.name, unit="epoch", total=epochs, initial=before) as bar:
            while kills < FRUITLESS:
                process = self.launcher.start(folder, self.args.data_dir, gpu, goal)
                self.processes[slot], code = process, None
                while code is None:
                    yield
                    code = process.exitcode
                    values = self.seen(folder)
                    # After the last epoch there is nothing to save.
                    if prune and self.study.note(claim, values[: epochs - 1], True):
                        raise TrialPruned(f"stopped after epoch {len(values)}, pruned")
                    self.progress.parts[slot] = trained + max(0, len(values) - before)
                    bar.n, value = len(values), values[-1] if values else None
                    bar.set_postfix_str("" if value is None else f"{self.study.metric} {value:.4f}")
                if 0 <= code <= 2:
                    return self.result(folder, code)
                if code == PAUSED and goal is not None and len(values) >= goal:
                    return None
                # A signal ended it, or its fork server died.
                last, saved = saved, path.stat().st_mtime_ns if path.exists() else 0
                kills = kills + 1 if saved == last else 1
        raise UserError(f"killed {kills} times without progress, last exit code {code}")

    def result(self, folder: Path, code: int) -> list[float]:
        """Return what a run that has ended is judged by; UserError says why there is nothing."""
        console, best = folder / CONSOLE, folder / "metrics_val_best_weights.json"
        if code:
            said = console.read_text("utf-8", "replace").splitlines() if console.exists() else []
            raise UserError("\n".join(said[-5:]) or f"exit code {code}")
        found = parsing.read_mapping(best) if best.exists() else {}
        if len(self.study.goals) > 1:  # a metric may have such a name
            seconds = math.fsum(row["seconds"] for row in _rows(folder / "times.jsonl"))
            status = parsing.read_mapping(folder / "status.json")
            found = {"seconds": seconds, "parameters": status["parameters"]} | found
        for name in self.study.goals:
            if found.get(name) is None:
                raise UserError(f"no epoch had a validation {name} that is a finite number")
        return [float(found[name]) for name in self.study.goals]

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


def _rows(path: Path) -> list[dict[str, Any]]:
    """Read what a run has noted of the epochs that it has finished."""
    return files.parse_rows(path.read_bytes())[0] if path.exists() else []
