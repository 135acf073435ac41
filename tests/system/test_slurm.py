"""docs/slurm.md on a real Slurm: a training that is preempted, queued again, and ends as if not."""

import os
import re
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Folder
from tests.helpers import ROOT, start_slurm
from tests.helpers.processes import wait_for
from tests.helpers.runs import RECIPE, assert_same
from tests.helpers.searching import trials, write_search
from tests.helpers.start_slurm import told
from tests.helpers.torchrun import begin_two, ended

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(start_slurm.missing() is not None, reason=str(start_slurm.missing())),
]
SUBMIT = ["sbatch", "--parsable", f"--chdir={ROOT}"]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def script(folder: Path, number: int) -> Path:
    """Write a script of the docs into a folder: 0 for training, 1 for a search."""
    text = (ROOT / "docs" / "slurm.md").read_text()
    path = folder / f"{number}.sbatch"
    path.write_text(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)[number])
    return path


def test_the_tasks_of_an_array_share_a_search(data: Path, tmp_path: Path) -> None:
    text = "method: random\ntrials: 12\nspace: {learning_rate: {low: 1e-5, high: 1e-2, log: true}}"
    folder = write_search(tmp_path / "s", text)
    with start_slurm.slurm(tmp_path / "slurm") as environment:
        environment |= {"PATH": PATH}
        array = ["--array=0-1", f"--output={tmp_path / 'task%a.txt'}"]
        arguments = ["--parent_dir", str(folder), "--data_dir", str(data)]
        told(environment, *SUBMIT, *array, str(script(tmp_path, 1)), *arguments)
        wait_for(lambda: len(trials(folder)) == 12, 200, every=0.1)
        wait_for(lambda: not told(environment, "squeue", "--noheader"), 60, every=0.1)
    for task in range(2):
        assert "12 of 12 trials complete" in (tmp_path / f"task{task}.txt").read_text()
    for name in trials(folder):
        assert (folder / name / "console.log").read_text().count(" 1/1 ") == 1


def test_a_preempted_training_is_queued_again_and_loses_nothing(
    run_folder: Folder, data: Path, tmp_path: Path
) -> None:
    recipe = RECIPE | {"num_epochs": 120}
    whole, folder = run_folder("whole", **recipe), run_folder("run", **recipe)
    code, printed = ended(begin_two(whole, data))
    assert code == 0, printed
    with start_slurm.slurm(tmp_path / "slurm") as environment:
        environment |= {"PER_NODE": "1", "OMP_NUM_THREADS": "1", "PATH": PATH}
        output = f"--output={tmp_path / 'job.txt'}"
        arguments = ["--model_dir", str(folder), "--data_dir", str(data)]
        job = told(environment, *SUBMIT, output, str(script(tmp_path, 0)), *arguments)

        def about_job() -> str:
            return told(environment, "scontrol", "show", "job", job)

        wait_for((folder / "last.pt").exists, 120)
        time.sleep(1)
        urgent = ["--partition=urgent", "--nodes=2", f"--output={tmp_path / 'urgent.txt'}"]
        assert told(environment, *SUBMIT, *urgent, "--wrap", "sleep 1")
        wait_for(lambda: "Restarts=1" in about_job(), 60, every=0.1)
        wait_for(lambda: "JobState=COMPLETED" in about_job(), 300, every=0.1)
    printed = (tmp_path / "job.txt").read_text()
    assert "Stopped by SIGTERM" in printed
    assert "Resuming after" in printed
    assert_same(folder, whole)
