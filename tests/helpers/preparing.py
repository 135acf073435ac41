"""What the tests of prepare scripts share."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.prepared import file_sha256


def prepare_with(main: Callable[[list[str]], int], output: Path, *options: object) -> int:
    """Run a script's main; the exit code of a usage error is returned, too."""
    try:
        return main(["--output", str(output), *map(str, options)])
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


def hashes(folder: Path) -> dict[str, str]:
    """Return hashes of all files below a folder, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): file_sha256(path) for path in files}


def croissant(folder: Path) -> dict[str, Any]:
    """Return what croissant.json says, which mlcroissant has found valid, and which fits the files.

    The keys: `files`, `sets`, and `fields` by the name of the set of records.
    """
    path = folder / "croissant.json"
    with warnings.catch_warnings(action="ignore"):  # of what mlcroissant imports
        mlcroissant = pytest.importorskip("mlcroissant")
        found = mlcroissant.Dataset(path).metadata  # raises ValidationError
    assert not found.ctx.issues.errors
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    files = [part for part in content["distribution"] if part["@type"] == "cr:FileObject"]
    sets = [part["includes"] for part in content["distribution"] if part["@type"] == "cr:FileSet"]
    for file in files:
        assert file["sha256"] == file_sha256(folder / file["contentUrl"])
    names = {name for name in hashes(folder) if name != "croissant.json"}
    listed = {file["contentUrl"] for file in files}
    listed |= {str(each.relative_to(folder)) for pattern in sets for each in folder.glob(pattern)}
    assert listed == names  # the manifest has the hashes of the files in sets
    fields = {
        part["name"]: [field["name"] for field in part["field"]] for part in content["recordSet"]
    }
    return {"files": listed, "sets": sets, "fields": fields}
