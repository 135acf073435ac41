"""In what two runs differ: params, versions, code, data, and where their metrics part."""

import json
import math
from collections.abc import Mapping
from typing import Any

from core.results.gathering import Result, RunFolder

RESOLVED = "params.resolved.json"
ABSENT = "(absent)"
PLACES = {"command", "resumed_with"}  # of params.resolved.json, what does not describe the run


def differences(a: Result, b: Result) -> str:
    """Return lines that name everything recorded in which two runs differ."""
    mine, theirs = resolved(a), resolved(b)
    pairs = {n: (mine.get(n, ABSENT), theirs.get(n, ABSENT)) for n in [*mine, *theirs]}
    lines = [f"{name}: {old} -> {new}" for name, (old, new) in pairs.items() if old != new]
    if not lines:
        lines.append("Nothing that was recorded differs: params, versions, code, data, device.")
    return "\n".join([f"A: {a.name}", f"B: {b.name}", "", *lines, "", parting(a, b)])


def resolved(run: Result) -> dict[str, str]:
    """Return all that a run has recorded about itself, nested names joined by dots."""
    content = RunFolder(run.folder, {RESOLVED}).mapping(RESOLVED)
    content = {name: value for name, value in content.items() if name not in PLACES}
    return flat(content | {"params": run.params}, "")


def flat(value: Any, name: str) -> dict[str, str]:
    """Return {"versions.torch": "2.11"} for {"versions": {"torch": "2.11"}}."""
    if isinstance(value, Mapping) and value:
        parts = [flat(item, f"{name}.{key}" if name else key) for key, item in value.items()]
        return {key: text for part in parts for key, text in part.items()}
    return {name: value if isinstance(value, str) else json.dumps(value)}


def parting(a: Result, b: Result) -> str:
    """Say in which epoch the rows of two metrics.jsonl first differ."""
    columns = [name for name in a.curves if name in b.curves]
    epochs = min((len(run.curves[name]) for run in (a, b) for name in columns), default=0)
    for i in range(epochs):
        pairs = {name: (a.curves[name][i], b.curves[name][i]) for name in columns}
        apart = [n for n, (x, y) in pairs.items() if x != y and not math.isnan(x + y)]
        if apart:
            shown = ", ".join("{} {:.8g} against {:.8g}".format(n, *pairs[n]) for n in apart[:3])
            step = f", step {pairs['step'][0]:g}" if "step" in pairs else ""
            return f"The metrics part in epoch {pairs['epoch'][0]:g}{step}: {shown}"
    if not epochs:
        return "One of them has no metrics.jsonl to compare."
    return f"The metrics are the same, to the bit, in the {epochs} epochs that both have."
