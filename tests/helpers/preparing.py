"""What the tests of prepare scripts share."""

from collections.abc import Callable
from pathlib import Path

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
