"""Whether two rows of the table can be told apart, and how two runs differ."""

import json
import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np

from core.base.errors import DataError
from core.results.gathering import Result
from core.results.intervals import TOO_SLOW, scored
from core.results.rows import Row, leaves, less_is_better, members, metric_names
from core.results.statistics import interval, over_both, over_seeds, resampled
from core.results.tables import with_deviation


def compare(a: Row, b: Row, split: str, seconds: float) -> dict[str, Any]:
    """Find for every metric whether two rows can be told apart, over examples and over seeds.

    Returns:
        What `as_text` shows: the names `a` and `b`, the numbers of `examples` and `seeds`, and for
        each of the `metrics` the values, the `gap` of their means, the `better` one, and in `over`
        intervals or p-values, each with a verdict: "A", "B", or None.

    Raises:
        DataError: a run's numbers are stale, or the two have not the same examples.
    """
    for run in [run for run in members([a, b]) if run.stale]:
        raise DataError(f"{run.name}: stale, its {split} numbers {run.stale_why}; evaluate again")
    metrics, found = scored(members([a, b]), split)
    draws, sizes = resampled(found, metrics, seconds), (len(a.members), len(b.members))
    groups = [range(sizes[0]), range(sizes[0], sum(sizes))]
    result: dict[str, Any] = {"a": a.name, "b": b.name, "split": split, "seeds": sizes}
    result |= {"examples": len(found[0]), "metrics": {}}
    for name in metric_names([a, b]):
        x, y = a.values(name), b.values(name)
        if not (x and y):
            continue
        gap, over = fmean(x) - fmean(y), dict[str, Any]()
        better = "A" if (gap > 0) != less_is_better(name, [a, b]) else "B"
        if name in draws:
            means = [draws[name][:, columns].mean(axis=1) for columns in groups]
            if max(sizes) > 1:
                both = over_both(draws[name], groups)
                over["seeds and examples"] = ends_of(both[:, 0] - both[:, 1], better)
            over["examples"] = ends_of(means[0] - means[1], better)
        elif name in metrics:
            over["examples"] = {"missing": TOO_SLOW}
        if min(sizes) > 1 and sizes == (len(x), len(y)):
            p, least = over_seeds(x, y), 2 / math.comb(sum(sizes), sizes[0])
            over["seeds"] = {"p": p, "least": least, "verdict": better if p <= 0.05 else None}
        fraction = name in metrics and all(0 <= value <= 1 for value in [*x, *y])
        result["metrics"][name] = {"A": x, "B": y, "gap": gap, "better": better, "over": over}
        result["metrics"][name]["fraction"] = fraction
    return result


def ends_of(differences: np.ndarray, better: str) -> dict[str, Any]:
    """Return the interval of a difference, and the verdict: the better one if 0 is outside."""
    low, high = interval(differences)
    return {"low": low, "high": high, "verdict": better if low > 0 or high < 0 else None}


def as_text(found: Mapping[str, Any]) -> str:
    """Return what `compare` has found as lines for a person."""
    lines = [f"A: {found['a']}", f"B: {found['b']}", ""]
    for name, each in found["metrics"].items():
        lines.append(f"{name}: A {with_deviation(each['A'])}, B {with_deviation(each['B'])}")
        scale, unit = (100, " points") if each["fraction"] else (1, "")
        for over, told in each["over"].items():
            if "missing" in told:
                lines.append(f"  over {over}: {told['missing']}")
                continue
            verdict = f"{told['verdict']} is better" if told["verdict"] else "not distinguishable"
            basis = (
                f"p = {told['p']:.2g}"
                if "p" in told
                else (f"95% interval [{scale * told['low']:.2f}, {scale * told['high']:.2f}]")
            )
            lines.append(f"  over {over}: {scale * each['gap']:+.2f}{unit}, {basis}: {verdict}")
            if told.get("least", 0) > 0.05:
                lines[-1] += f" (with so few seeds p cannot be below {told['least']:.2g})"
    name = {"val": "validation", "train": "training"}.get(found["split"], found["split"])
    told = f"would a different set of {found['examples']} {name} examples change the verdict?"
    lines += ["", f"'Over examples': {told}"]
    if min(found["seeds"]) > 1:
        told = "would other seeds than these {} and {}?".format(*found["seeds"])
        lines.append(f"'Over seeds': {told} Over both is the verdict.")
    else:
        lines.append("'Over seeds': unknown. Train several seeds of each, five or more if you can.")
    return "\n".join(lines)


def differences(a: Result, b: Result) -> str:
    """Return lines that name everything recorded in which two runs differ."""
    one, other = (
        {name: x if isinstance(x, str) else json.dumps(x) for name, x in leaves(each)}
        for each in (run.recorded | {"params": run.params} for run in (a, b))
    )
    lines = [
        f"{name}: {one.get(name, '(absent)')} -> {other.get(name, '(absent)')}"
        for name in one | other
        if one.get(name) != other.get(name)
        and name.split(".")[0] not in ("command", "resumed_with")
    ]
    if not lines:
        lines.append("Nothing that was recorded differs: params, versions, code, data, device.")
    return "\n".join([f"A: {a.name}", f"B: {b.name}", "", *lines, "", first_difference(a, b)])


def first_difference(a: Result, b: Result) -> str:
    """Say in which epoch the rows of two metrics.jsonl first differ."""
    columns = [name for name in a.curves if name in b.curves]
    epochs = min((len(run.curves[name]) for run in (a, b) for name in columns), default=0)
    if not epochs:
        return "One of them has no metrics.jsonl to compare."
    for i in range(epochs):
        pairs = {name: (a.curves[name][i], b.curves[name][i]) for name in columns}
        apart = [n for n, (x, y) in pairs.items() if x != y and not math.isnan(x + y)]
        if apart:
            shown = ", ".join("{} {:.8g} against {:.8g}".format(n, *pairs[n]) for n in apart[:3])
            step = f", step {pairs['step'][0]:g}" if "step" in pairs else ""
            return f"The metrics first differ in epoch {pairs['epoch'][0]:g}{step}: {shown}"
    return f"The metrics are the same, to the bit, in the {epochs} epochs that both have."
