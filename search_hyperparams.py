"""Search hyperparameters: one folder and one `train.py` for every point of a grid.

    python search_hyperparams.py --parent_dir experiments/learning_rate

`parent_dir` holds the base `params.json` and a `search.yaml` such as

    method: grid
    space: {learning_rate: [1e-4, 1e-3, 1e-2]}

Every trial can be trained, resumed or evaluated by hand, since it is a run like any other. The same
command again goes on with what is not finished, and adds what is new.
"""

import argparse
import itertools
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import UsageError, did_you_mean, reports_errors
from core.params import (
    ROOT,
    Params,
    check_names,
    check_values,
    find_params_file,
    load_params,
    read_mapping,
)


def launch_training_job(
    parent_dir: str | Path, data_dir: str | Path | None, job_name: str, params: Params
) -> int:
    """Train `parent_dir/job_name` with `params`, or go on with it.

    Args:
        parent_dir: folder of the search.
        data_dir: folder of the data; None: what the params or the task say.
        job_name: name of the trial's folder.
        params: all that goes into its `params.json`.

    Returns:
        The exit code of `train.py`.
    """
    model_dir = Path(parent_dir) / job_name
    model_dir.mkdir(parents=True, exist_ok=True)
    if not any((model_dir / name).exists() for name in ("params.json", "params.yaml")):
        params.save(model_dir / "params.json")
    elif read_mapping(find_params_file(model_dir)) != params.dict:
        raise UsageError(
            f"{model_dir}: its params are not those of this trial; rename or remove it"
        )
    command = [sys.executable, str(ROOT / "train.py"), "--model_dir", str(model_dir)]
    if data_dir is not None:
        command += ["--data_dir", str(data_dir)]
    return subprocess.run(command, check=False).returncode


def read_grid(path: Path, base: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the points of a search.yaml: every combination of the values of its space.

    Raises:
        UsageError: a key or value could not stand in a params file, or the method is unknown.
    """
    settings = read_mapping(path)
    for name in settings:
        if name not in ("method", "space"):
            hint = did_you_mean(name, ("method", "space"))
            raise UsageError(f"{path}: unknown key {name!r}{hint}")
    if settings.get("method", "grid") != "grid":
        raise UsageError(f"{path}: 'method' is {settings['method']!r}, want grid")
    space = settings.get("space")
    if not (isinstance(space, dict) and space and all(isinstance(v, list) for v in space.values())):
        raise UsageError(f"{path}: 'space' is {space!r}, want a list of values for each key")
    if empty := [name for name, values in space.items() if not values]:
        raise UsageError(f"{path}: 'space' holds no values for {empty[0]!r}")
    if warnings := check_names(space, base.get("task", "model"), str(path), base):
        raise UsageError(warnings[0])
    points = [
        dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())
    ]
    return [check_values(point, str(path)) for point in points]


def trial_name(point: dict[str, Any]) -> str:
    """Return the folder's name of a point: "learning_rate_0.001-batch_size_32"."""
    return "-".join(f"{name}_{re.sub('[^A-Za-z0-9_.+]', '_', str(point[name]))}" for name in point)


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns 1 if a trial failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parent_dir", type=Path, default=Path("experiments/learning_rate"))
    parser.add_argument("--data_dir", help="default: what the params or the task say")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    args = parser.parse_args(argv)

    base_path = find_params_file(args.parent_dir)
    load_params(base_path, {})
    base = read_mapping(base_path)
    points = read_grid(args.parent_dir / "search.yaml", base)
    names = [trial_name(point) for point in points]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"{args.parent_dir}: two points are both named {min(repeated)!r}")
    failed = []
    for number, (name, point) in enumerate(zip(names, points, strict=True), start=1):
        print(f"Trial {number} of {len(points)}: {name}", flush=True)
        params = Params.of(base | point, args.parent_dir / name)
        if code := launch_training_job(args.parent_dir, args.data_dir, name, params):
            failed.append(f"{name} (exit code {code})")
    print(f"{len(points) - len(failed)} of {len(points)} trials are complete.")
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
