"""Make a notebook of a page: python docs/notebook.py docs/tutorial.md docs/tutorial.ipynb."""

import json
import re
import sys
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```(python|text)\n(.*?)^```\n?", re.S | re.M)
FIRST = (
    "Run this first. On Colab, remove the # signs, and put the address of the repository in place "
    "of ADDRESS."
)
SETUP = """# !git clone ADDRESS project
# %cd project
import os

if not os.path.exists("train.py"):  # this notebook lies in docs/
    os.chdir("..")
"""


def cell(kind: str, text: str, number: int) -> dict[str, Any]:
    """Return a cell of a notebook: code or markdown."""
    lines = text.strip("\n").splitlines(keepends=True)
    made: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
    made |= {"source": lines}
    return made | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def notebook(page: str) -> str:
    """Return the notebook as text: prose and code; what the code prints is left out."""
    parts = [("markdown", FIRST), ("code", SETUP)]
    place = 0
    for block in BLOCK.finditer(page):
        parts.append(("markdown", page[place : block.start()]))
        if block[1] == "python":
            parts.append(("code", block[2]))
        place = block.end()
    parts.append(("markdown", page[place:]))
    kept = [(kind, text) for kind, text in parts if text.strip()]
    cells = [cell(kind, text, number) for number, (kind, text) in enumerate(kept)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(notebook(source.read_text(encoding="utf-8")), encoding="utf-8")
