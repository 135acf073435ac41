"""What a person sees on a terminal of 80 columns: tmux is that terminal."""

import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Folder
from tests.helpers import ROOT
from tests.helpers.processes import wait_for

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is missing")


class Terminal:
    """A window of 80 columns and 50 lines, in a server of its own."""

    def __init__(self, command: str) -> None:
        self.server = ["tmux", "-L", f"test{uuid.uuid4().hex[:8]}"]
        size = ["-x", "80", "-y", "50"]
        shell = f"{command}; echo exit code $?; sleep 600"
        subprocess.run([*self.server, "new-session", "-d", *size, shell], check=True, cwd=ROOT)

    def screen(self) -> list[str]:
        """Return the lines that stand there now."""
        command = [*self.server, "capture-pane", "-p"]
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.splitlines()

    def has(self, text: str) -> bool:
        """Tell whether a text stands there."""
        return any(text in line for line in self.screen())

    def press(self, key: str) -> None:
        """Press a key, such as C-c."""
        subprocess.run([*self.server, "send-keys", key], check=True)

    def close(self) -> None:
        """End the window and what runs in it."""
        subprocess.run([*self.server, "kill-server"], check=False)


@pytest.fixture
def terminal() -> Iterator[Callable[[str], Terminal]]:
    """Return a function that runs a command in a new terminal."""
    opened: list[Terminal] = []

    def run(command: str) -> Terminal:
        opened.append(Terminal(command))
        return opened[-1]

    yield run
    for each in opened:
        each.close()


def test_training_shows_one_line_an_epoch_and_ctrl_c_says_how_to_go_on(
    terminal: Callable[[str], Terminal], run_folder: Folder, signs: Path
) -> None:
    folder = run_folder("r", task="tests.projects.pictures", num_epochs=4000)
    window = terminal(f"{sys.executable} train.py --model_dir {folder} --data_dir {signs}")
    wait_for(lambda: window.has("4/4000"), seconds=90)
    window.press("C-c")
    wait_for(lambda: window.has("exit code 130"), seconds=60)
    lines = window.screen()
    header = next(i for i, line in enumerate(lines) if line.split()[:1] == ["epoch"])
    assert lines[header].split()[1:5] == ["train", "loss", "val", "loss"]
    assert lines[header].rstrip().endswith("learning rate  time left")
    first = lines[header + 1]
    assert first.split()[0] == "1/4000"
    assert first.endswith("*")
    assert [line.split()[0] for line in lines[header + 1 : header + 4]] == [
        f"{i}/4000" for i in (1, 2, 3)
    ]
    assert any("Stopped by SIGINT; the same command resumes from here." in line for line in lines)
    assert not any("Traceback" in line for line in lines)


def test_a_search_shows_a_table_with_short_names_and_the_time_left(
    terminal: Callable[[str], Terminal], run_folder: Folder, signs: Path
) -> None:
    folder = run_folder("s", task="tests.projects.pictures", num_epochs=3)
    (folder / "search.yaml").write_text("space: {learning_rate: [0.001, 0.0005]}\n")
    window = terminal(
        f"{sys.executable} search_hyperparams.py --parent_dir {folder} --data_dir {signs}"
    )
    wait_for(lambda: window.has("0 of 2 trials"), seconds=90)  # from the beginning
    wait_for(lambda: window.has("exit code 0"), seconds=120)
    lines = window.screen()
    header = next(i for i, line in enumerate(lines) if line.split()[:1] == ["trial"])
    assert lines[header].split() == ["trial", "accuracy", "time", "time", "left"]
    assert [line.split()[:2] for line in lines[header + 1 : header + 3]] == [
        ["#0", "lr=1e-3"],
        ["#1", "lr=5e-4"],
    ]
    assert lines[header + 1].endswith("*")
    assert any("2 of 2 trials complete" in line for line in lines)
