"""The code in the documentation runs, and prints what the page says it does."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.S | re.M)


PAGES = [p for p in sorted((ROOT / "docs").glob("*.md")) if "```python\n" in p.read_text("utf-8")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
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
    assert names
    assert not printed
