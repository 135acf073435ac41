"""docs/slurm.md on a real Slurm: a training that is preempted, queued again, and ends as if not."""

import re
import time
from pathlib import Path

import pytest

from tests import start_slurm
from tests.conftest import ROOT, Folder
from tests.start_slurm import told, wait_for
from tests.test_distributed import LONG, begin, ended
from tests.test_survival import assert_same


def script(folder: Path) -> Path:
    """Write the script of the docs into a folder."""
    text = (ROOT / "docs" / "slurm.md").read_text()
    (folder / "train.sbatch").write_text(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)[0])
    return folder / "train.sbatch"


@pytest.mark.slow
@pytest.mark.skipif(start_slurm.missing() is not None, reason=str(start_slurm.missing()))
def test_a_preempted_training_is_queued_again_and_loses_nothing(
    run_folder: Folder, data: Path, tmp_path: Path
) -> None:
    recipe = LONG | {"num_epochs": 60}
    whole, folder = run_folder("whole", **recipe), run_folder("run", **recipe)
    code, printed = ended(begin(whole, data))
    assert code == 0, printed
    with start_slurm.slurm(tmp_path / "slurm") as environment:
        environment |= {"PER_NODE": "1", "OMP_NUM_THREADS": "1"}
        environment["PATH"] = f"{ROOT / '.venv' / 'bin'}:{environment['PATH']}"
        submit = ["sbatch", "--parsable", f"--chdir={ROOT}"]
        output = f"--output={tmp_path / 'job.txt'}"
        arguments = ["--model_dir", str(folder), "--data_dir", str(data)]
        job = told(environment, *submit, output, str(script(tmp_path)), *arguments)

        def about_job() -> str:
            return told(environment, "scontrol", "show", "job", job)

        wait_for((folder / "last.pt").exists, 120)
        time.sleep(1)
        urgent = ["--partition=urgent", "--nodes=2", f"--output={tmp_path / 'urgent.txt'}"]
        assert told(environment, *submit, *urgent, "--wrap", "sleep 1")
        wait_for(lambda: "Restarts=1" in about_job(), 60)
        wait_for(lambda: "JobState=COMPLETED" in about_job(), 300)
    printed = (tmp_path / "job.txt").read_text()
    assert "Stopped by SIGTERM" in printed
    assert "Going on after" in printed
    assert_same(folder, whole)
