"""Write a project's data files: python -m tests.projects.prepare table data/table."""

import importlib
import sys
from pathlib import Path

SIZES = {"train": 80, "val": 40, "test": 40}  # examples of each split


def main(name: str, folder: str) -> None:
    """Make the folder, and write the data of the project into it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    importlib.import_module(f"tests.projects.{name}.data_loader").write(Path(folder), SIZES)


if __name__ == "__main__":
    main(*sys.argv[1:])
