"""The bad example of each check in docs/check.md fails, and the mended one passes."""

import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import check
from core.check.checks import CHECKS
from tests.conftest import Folder
from tests.helpers import ROOT

PAGE = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^```python\n# (net|data_loader)\.py(?:, (bad|mended))?\n(.*?)^```$", re.S | re.M
)
WARNINGS = (  # the others fail
    "frozen weights are loaded",
    "validation is not augmented",
    "what is learned holds in validation",
)
START, *SECTIONS = re.split(r"^## ", PAGE, flags=re.M)
EXAMPLES = {text.partition("\n")[0]: BLOCK.findall(text) for text in SECTIONS}


@pytest.fixture
def make_task() -> Iterator[Callable[[str, str], str]]:
    """Return a function that makes the task of a section, bad or mended; returns its name."""
    made: list[Path] = []

    def make(section: str, kind: str) -> str:
        folder = ROOT / f"page_{uuid.uuid4().hex[:8]}"
        made.append(folder)
        folder.mkdir()
        (folder / "__init__.py").touch()
        for name in ("net", "data_loader"):
            parts = [text for file, _, text in BLOCK.findall(START) if file == name]
            own = [(which, text) for file, which, text in EXAMPLES[section] if file == name]
            # A file that a section does not mend is as it was.
            fitting = [text for which, text in own if which in (kind, "")]
            (folder / f"{name}.py").write_text("\n".join(parts + (fitting or [t for _, t in own])))
        return folder.name

    yield make
    for folder in made:
        shutil.rmtree(folder)


def test_every_check_has_a_section() -> None:
    assert list(EXAMPLES) == list(CHECKS)
    for name, blocks in EXAMPLES.items():
        kinds = {kind for _, kind, _ in blocks} - {""}
        assert kinds == ({"bad", "mended"} if name != "speed" else set())


@pytest.mark.slow
@pytest.mark.parametrize("section", [name for name in EXAMPLES if name != "speed"])
def test_the_bad_example_fails_and_the_mended_one_passes(
    section: str,
    make_task: Callable[[str, str], str],
    run_folder: Folder,
    no_data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("core.check.checks.CHECKS", dict(list(CHECKS.items())[:-1]))  # not speed
    verdicts = {}
    for kind in ("bad", "mended"):
        params = {"batch_size": 8, "learning_rate": 0.02, "optimizer": "Adam", "monitor": "loss"}
        folder = run_folder(kind, task=make_task(section, kind), **params)
        code = check.main(["--model_dir", str(folder), "--data_dir", str(no_data)])
        printed = capsys.readouterr().out
        failed = [line for line in printed.splitlines() if line.startswith("FAIL")]
        verdicts[kind] = code, failed, printed
    code, failed, printed = verdicts["bad"]
    if section in WARNINGS:
        assert re.search(f"^warn  {section}: ", printed, re.M), printed
        assert (code, failed) == (0, []), printed
    else:
        assert code == 1, printed
        assert failed[0].startswith(f"FAIL  {section}: "), printed
    assert verdicts["mended"][:2] == (0, []), verdicts["mended"][2]
