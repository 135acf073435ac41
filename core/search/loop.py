"""The loop of a search: claims points, starts trials, looks after them until none is left."""

import time
from argparse import Namespace
from collections.abc import Iterator
from multiprocessing.connection import wait

from core.base.errors import UsageError, UserError
from core.base.keys import DEFAULTS
from core.base.params import Params
from core.machine.environment import usable_cores
from core.machine.signals import Stop
from core.search.space import Settings
from core.search.study import Claim, Study
from core.search.workers import Job, Launcher, Screen, make_folder, stop_all


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
        args: Namespace,
        base: Params,
        settings: Settings,
        study: Study,
        metric: str,
        launcher: Launcher,
    ) -> None:
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
        seed = self.base.dict.get("seed", DEFAULTS["seed"])
        seeds = [seed + i for i in range(self.settings.repeats)]
        names = [claim.name] if len(seeds) == 1 else [f"{claim.name}-seed_{s}" for s in seeds]
        folders = [self.args.parent_dir / name for name in names]
        params = self.base.dict | {"num_threads": self.num_threads} | claim.point
        gpu = self.args.gpus[slot % len(self.args.gpus)] if self.args.gpus else None
        epochs = params.get("num_epochs", DEFAULTS["num_epochs"])
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
