"""What the scripts' `main` returns: an exit code for a shell, and more for a notebook."""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BEST = "metrics_val_best_weights.json"  # that training writes


class Outcome(int):
    """An exit code that knows where the results are.

        done = train.main(["--model_dir", "experiments/base_model"])
        done.metrics["accuracy"], done.folder / "best.pt"

    Args:
        code: the exit code, 0 for success.
        folder: of the run, or of several.
        metrics: by name; None: those of the best validation, which training wrote.
        facts: what `--json` prints besides.
    """

    folder: Path
    known: Mapping[str, float] | None
    facts: Mapping[str, Any]

    def __new__(
        cls, code: int, folder: Path, metrics: Mapping[str, float] | None = None, **facts: Any
    ) -> "Outcome":
        """Make the number, with the rest as attributes."""
        made = super().__new__(cls, code)
        made.folder, made.known, made.facts = Path(folder), metrics, facts
        return made

    @property
    def metrics(self) -> dict[str, float]:
        """Return metrics by name; {} if there are none."""
        if self.known is not None:
            return dict(self.known)
        path = self.folder / BEST
        found: dict[str, float] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        return found

    def __str__(self) -> str:
        return int.__repr__(self)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}: {value:.4g}" for name, value in self.metrics.items())
        return f"<exit code {int(self)}, {self.folder}: {values}>"


class Failure(int):
    """An exit code that knows what went wrong."""

    error: str

    def __new__(cls, code: int, error: object) -> "Failure":
        """Make the number, with what went wrong as an attribute."""
        made = super().__new__(cls, code)
        made.error = str(error)
        return made


def as_json(code: int) -> str:
    """Return what `--json` prints; metrics that are not finite are null."""
    found: dict[str, Any] = {"exit_code": int(code)}
    if isinstance(code, Failure):
        found["error"] = code.error
    elif isinstance(code, Outcome):
        finite = {
            n: v if math.isfinite(v) else None for n, v in code.metrics.items() if v is not None
        }
        found |= {"folder": str(code.folder), "metrics": finite, **code.facts}
    return json.dumps(found)


def in_notebook() -> bool:
    """Tell whether this is a notebook, whose output is no terminal but shows bars."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return "ZMQ" in type(shell).__name__  # of Jupyter and Colab
