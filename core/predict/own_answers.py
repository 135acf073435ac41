"""Answers as a task's own `predict` gives them: plain values, texts and files."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.base.errors import UsageError
from core.task import Task

# Names of files that are given without one, by how they begin.
STARTS = {b"\x89PNG": "png", b"\xff\xd8\xff\xe0": "jpg", b"RIFF": "wav", b"GIF8": "gif"}
UNSAFE = r"[^\w.-]+"  # in a file's name


def own_answers(task: Task, answers: Any, count: int) -> list[dict[str, Any]]:
    """Return the answers of a task's `predict` as dicts, each of plain values and bytes."""
    where = f"predict of {task.name}.net gives"
    if isinstance(answers, Mapping | str | bytes) or not hasattr(answers, "__iter__"):
        kind = type(answers).__name__
        raise UsageError(f"{where} a {kind}, want a list with one answer for each input")
    found = [answer if isinstance(answer, Mapping) else _named(answer) for answer in answers]
    if len(found) != count:
        raise UsageError(f"{where} {len(found)} answers for {count} inputs")
    return [{str(key): _plain(value) for key, value in answer.items()} for answer in found]


def _named(answer: Any) -> dict[str, Any]:
    """Return an answer that is no dict as one: a text, a file, or numbers."""
    if isinstance(answer, bytes):
        return {next((end for start, end in STARTS.items() if answer[:4] == start), "bin"): answer}
    return {"text" if isinstance(answer, str) else "outputs": answer}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, or bytes; arrays and tensors become lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    raise UsageError(f"predict of net.py: an answer holds a {type(value).__name__}")


def write_files(found: dict[str, Any], folder: Path | None, taken: set[str]) -> dict[str, Any]:
    """Write an answer's files, its values of bytes, and return it with their paths instead.

    A file is named after the input, its key is the end of the name. `taken` are names that other
    inputs have already. UsageError: there are files, but no folder for them.
    """
    files = {key: value for key, value in found.items() if isinstance(value, bytes)}
    if not files:
        return found
    if folder is None:
        raise UsageError(f"answers hold files ({', '.join(files)}): say where with --output DIR")
    name = Path(found["name"]).name
    name = re.sub(UNSAFE, "_", re.sub(r"\.\w{1,5}$", "", name))[:60].strip("._") or "answer"
    numbered = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
    taken.add(stem := next(each for each in numbered if each not in taken))
    folder.mkdir(parents=True, exist_ok=True)
    paths = {key: folder / f"{stem}.{re.sub(UNSAFE, '_', key)}" for key in files}
    for key, path in paths.items():
        path.write_bytes(files[key])
    return found | {key: str(path) for key, path in paths.items()}
