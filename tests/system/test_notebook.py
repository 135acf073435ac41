"""The notebook of the tutorial: made of its page, and it runs."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import evaluate
import train
from core.machine.outcome import Outcome
from tests.conftest import Folder
from tests.helpers import ROOT
from tests.helpers.runs import results

PAGE, NOTEBOOK = ROOT / "docs" / "tutorial.md", ROOT / "docs" / "tutorial.ipynb"
spec = importlib.util.spec_from_file_location("notebook", ROOT / "docs" / "notebook.py")
assert spec is not None
assert spec.loader is not None
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)


def test_the_notebook_is_that_of_the_page() -> None:
    made = maker.notebook(PAGE.read_text(encoding="utf-8"))
    assert NOTEBOOK.read_text(encoding="utf-8") == made, "make docs/tutorial.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the notebook's own packages
def test_the_notebook_runs_and_prints_what_the_page_says() -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    whole = nbformat.read(NOTEBOOK, as_version=4)
    context = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(whole, timeout=300, resources=context).execute()
    printed = [
        "".join(each["text"] for each in cell["outputs"] if each.get("name") == "stdout")
        for cell in whole.cells
        if cell["cell_type"] == "code"
    ]
    wanted = [text for kind, text in maker.BLOCK.findall(PAGE.read_text()) if kind == "text"]
    assert [text for text in printed if text] == wanted


def test_main_returns_metrics_and_places_and_is_an_exit_code(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(num_epochs=1, task="tests.projects.linear")
    argv = ["--model_dir", str(folder), "--data_dir", str(signs)]
    done = train.main(argv)
    assert isinstance(done, Outcome)
    assert done == 0
    assert done.folder == folder
    assert done.metrics == results(folder, "val_best_weights")
    assert f"accuracy: {done.metrics['accuracy']:.4g}" in repr(done)
    again = train.main(argv)  # complete
    assert isinstance(again, Outcome)
    assert again.metrics == done.metrics
    scored = evaluate.main(["--model_dir", str(folder), "--split", "test"])
    assert isinstance(scored, Outcome)
    assert scored.metrics == results(folder, "test_best")
    with pytest.raises(SystemExit) as ended:
        sys.exit(done)
    assert ended.value.code == 0


def test_a_notebook_shows_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    from core.run.progress import hidden_bar

    class ZMQInteractiveShell:
        """What IPython has in a notebook."""

    assert hidden_bar() is None  # shown on a terminal only
    shell = SimpleNamespace(get_ipython=ZMQInteractiveShell)
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert hidden_bar() is False
