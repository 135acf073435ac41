"""A newcomer clones the repository and types what README.md says; so does this test."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.examples import CHANGED, hand_signs

LEFT_OUT = ("-m venv", "pip install", "make test")  # the environment that runs this test has both
PAGES = ("docs/search.md", "docs/slurm.md", "docs/tutorial.md", "data/README.md", "tests/README.md")
LINKED = ("bin", "lib", "include", "pyvenv.cfg")


@pytest.mark.slow
@pytest.mark.skipif(not hand_signs(), reason=CHANGED)
@pytest.mark.skipif(not (ROOT / "experiments/base_model").exists(), reason="it has been removed")
@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_every_command_of_a_page_works_in_a_fresh_clone(page: str, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    (clone / ".venv").mkdir()
    for name in LINKED:
        (clone / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (clone / ".venv" / ".ready").touch()
    path = f"{clone / '.venv' / 'bin'}:{os.environ['PATH']}"
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", (clone / page).read_text("utf-8"), re.S | re.M)
    assert "sh" in dict(blocks)
    printed = ""
    for i, (kind, text) in enumerate(blocks):
        if kind == "text" and blocks[i - 1][0] == "sh":
            wanted = re.escape(masked(text)).replace(r"\.\.\.", "(.|\n)*")
            assert re.search(wanted, masked(printed)), f"{text}\nbut it prints\n{printed}"
        if kind != "sh":
            continue
        if "-m venv" in text:  # the other way to begin
            subprocess.run(["git", "clean", "-fdxq", "-e", ".venv"], cwd=clone, check=True)
        lines = [line for line in text.splitlines() if not any(word in line for word in LEFT_OUT)]
        done = subprocess.run(
            ["bash", "-e", "-c", "\n".join(lines)],
            cwd=clone,
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}"
        printed = done.stdout
    status = ["git", "status", "--short"]
    assert not subprocess.run(status, cwd=clone, capture_output=True, check=True).stdout


def masked(text: str) -> str:
    """Replace what depends on machine and versions: numbers, the best epoch; and runs of blanks."""
    text = re.sub(r"  \*$", "", text, flags=re.M).replace("bfloat16", "float32")
    return re.sub(r"[ \t]+", " ", re.sub(r"\d+(\.\d+)?(e-?\d+)?", "#", text))
