"""The code in the documentation runs, and prints what the page says it does."""

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT
from tests.helpers.clone import copy_repository

HOW_TO = ROOT / "docs" / "your-project.md"  # files and commands, instead of lines of Python
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.S | re.M)


@pytest.mark.parametrize(
    "page", sorted(set((ROOT / "docs").glob("*.md")) - {HOW_TO}), ids=lambda page: page.stem
)
def test_the_code_of_a_page_prints_what_the_page_says(page: Path) -> None:
    names: dict[str, Any] = {}
    printed = ""
    for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "python":
            assert not printed, f"the page does not show that this was printed: {printed}"
            with contextlib.redirect_stdout(io.StringIO()) as out:
                try:
                    exec(compile(text, str(page), "exec"), names)
                except ModuleNotFoundError as error:
                    pytest.skip(f"the example task has been removed: {error}")
            printed = out.getvalue()
        else:
            assert printed == text
            printed = ""
    assert not printed


@pytest.mark.slow
def test_a_new_task_is_made_and_trained_as_the_page_says(tmp_path: Path) -> None:
    clone = copy_repository(tmp_path / "clone")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", HOW_TO.read_text(encoding="utf-8"), re.S | re.M)
    printed = ""
    for kind, text in blocks:
        if kind == "sh":
            command = ["bash", "-e", "-c", text]
            done = subprocess.run(
                command, cwd=clone, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
            printed = done.stdout
        elif kind == "text":
            assert re.fullmatch(re.escape(text).replace(r"\.\.\.", "(.|\n)*"), printed), printed
        else:
            path = clone / text.partition("\n")[0].removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    assert printed.count("passed") == 1


def test_the_tests_that_the_documentation_names_exist() -> None:
    link = re.compile(r"\[(test_\w+\.py)\]\(\.\./(tests/[\w/]+\.py)\)(?::\s+`(\w+)`)?")
    pages = [ROOT / "README.md", ROOT / "tests" / "README.md", *(ROOT / "docs").glob("*.md")]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    found = [hit for text in texts for hit in link.findall(text)]
    assert found
    for shown, path, test in found:
        assert shown == Path(path).name
        assert test in (ROOT / path).read_text(encoding="utf-8"), test
    for path in (path for text in texts for path in re.findall(r"`(tests/[\w/]+\.\w+)`", text)):
        assert (ROOT / path).is_file(), path


MOST = 30  # words of a sentence
PROSE = [
    ROOT / "README.md",
    ROOT / "AGENTS.md",
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "data" / "README.md",
]


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a page, without code, tables, titles and the addresses of links."""
    text = re.sub(r"^```.*?^```|^\|.*?$", "", text, flags=re.S | re.M)
    text = re.sub(r"^#.*$", "\n", text, flags=re.M)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^\s*(?:[-*]|\d+\.)\s+", "\n\n", text, flags=re.M)
    for paragraph in re.split(r"\n\s*\n", text):
        yield from re.split(r"(?<=[.!?:;])\s+(?=[A-Z`\"'(*\[0-9-])", " ".join(paragraph.split()))


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.stem)
def test_no_sentence_is_longer_than_thirty_words(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [each for each in sentences(text) if len(each.split()) > MOST] == []
