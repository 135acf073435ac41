"""All texts that the scripts print, log or raise: `python -m tests.helpers.messages` lists them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.helpers import ROOT

LEAST = 3  # words of a text, below which it is a name or a format


def text_of(node: ast.expr | None) -> str | None:
    """Return a text with X for what is filled in; None of what is no text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "X" for v in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        return None if left is None and right is None else f"{left or 'X'}{right or 'X'}"
    return None


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line numbers and texts of a file, but for docstrings and types."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            skipped |= {id(each) for each in ast.walk(node.annotation)}
    for node in ast.walk(tree):
        if id(node) in skipped or not isinstance(node, ast.expr):
            continue
        if (text := text_of(node)) is not None:
            skipped |= {id(each) for each in ast.walk(node)}
            if len(text.split()) >= LEAST and re.search(r"[a-z] [a-z]", text):
                yield node.lineno, text


def all_texts() -> Iterator[tuple[str, str]]:
    """Yield place and text of all messages."""
    for path in [*sorted(ROOT.glob("*.py")), *sorted(ROOT.glob("core/**/*.py"))]:
        for line, text in texts(path):
            yield f"{path.relative_to(ROOT)}:{line}", text


def sentences(text: str) -> list[str]:
    """Return the sentences of a message."""
    return [s for s in re.split(r"(?<=[.!?:;])\s+|\n", text) if s]


if __name__ == "__main__":
    for place, text in all_texts():
        print(f"{place}: {text!r}")
