"""A run in one file: code, results, environment, provenance, model card, how to verify it."""

import hashlib
import json
import platform
import re
import sys
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from core.base.errors import UsageError, listed
from core.base.files import replacing
from core.base.params import ROOT, find_params_file
from core.data.folder import synthetic_note
from core.run.folder import EVALUATIONS, RESOLVED
from core.verify.record import Record

Intervals = Mapping[str, Mapping[str, tuple[float, float]]]  # by split and metric
OF_RUN = (RESOLVED, EVALUATIONS, "metrics.jsonl", "metrics_*.json", "predictions_*.npz", "best.pt")
OF_PROJECT = ("LICENSE", "requirements.txt", "train.py", "evaluate.py", "verify.py", "utils.py")
CRATE, PROFILE = "https://w3id.org/ro/crate/1.1", "https://w3id.org/ro/wfrun/process/0.5"
LOCK = """# --hash is that of the archive, where pip noted it. files-sha256 is another hash:
# SHA-256 of the lines of RECORD with the hashes of the files that a wheel brings."""
README = """# {name}

A trained net with its record: `run/` holds params, metrics, predictions and weights (`best.pt`);
beside it stands the code that trained it. `MODEL_CARD.md` tells the results,
`ro-crate-metadata.json` the provenance, `environment.lock.txt` the exact versions.

With Python {python} and the data at hand in the folder DATA:

    pip install -r requirements.txt
    python evaluate.py --model_dir run --data_dir DATA --split {split}
    python verify.py run --data_dir DATA

The first command repeats the scores. The second compares data, code and versions with the record,
trains the net again, and says whether every number and weight follows.

The data are {files} files of {bytes} bytes; the SHA-256 of names, sizes and contents is
{sha256}. {made}
"""


def lock() -> str:
    """Return the exact versions of the packages in use, each with a hash of what is installed."""
    owners = metadata.packages_distributions()
    modules = {name.partition(".")[0] for name in sys.modules}
    here = f"# Python {platform.python_version()}, {platform.system()}, {platform.machine()}"
    lines = [here, *LOCK.splitlines()]
    for name in sorted({owner for module in modules for owner in owners.get(module, ())}):
        found = metadata.distribution(name)
        url = json.loads(found.read_text("direct_url.json") or "{}")
        archive = url.get("archive_info", {}).get("hashes", {}).get("sha256")
        record = sorted((found.read_text("RECORD") or "").splitlines())
        brought = [x for x in record if re.match(r"(?!\.\.|[^,]*\.dist-info/).*,sha256=", x)]
        digest = hashlib.sha256("\n".join(brought).encode()).hexdigest()
        hashes = f" --hash=sha256:{archive}" if archive else ""
        lines.append(f"{name}=={found.version}{hashes}  # files-sha256:{digest}")
    return "\n".join(lines) + "\n"


def model_card(record: Record, name: str, intervals: Intervals) -> str:
    """Return a model card in the form of Hugging Face, with results and their intervals."""
    results, lines = [], []
    for split, (values, *_) in record.evaluations().items():
        metrics = []
        for metric, value in values.items():
            found = intervals.get(split, {}).get(metric)
            args = {"interval_95": [*found], "method": "bootstrap over examples"} if found else {}
            one = {"type": metric, "name": metric, "value": value}
            metrics.append(one | ({"args": args} if args else {}))
            told = f"[{found[0]:.4g}, {found[1]:.4g}]" if found else "-"
            lines.append(f"| {split} | {metric} | {value} | {told} |")
        about = {"name": record.data_dir.name, "type": record.data_dir.name, "split": split}
        about["revision"] = record.newest["data"]["sha256"]
        task = {"type": "other", "name": record.params.task}
        results.append({"task": task, "dataset": about, "metrics": metrics})
    front = {"library_name": "pytorch", "model-index": [{"name": name, "results": results}]}
    table = ["| split | metric | value | 95% interval |", "|---|---|---|---|", *lines]
    note = synthetic_note(record.data_dir)
    notes = [f"The data are {note}", ""] if note else []
    notes += ["An interval is over examples: other seeds would differ by more.", ""]
    text = [f"# {name}", "", f"Task `{record.params.task}`, {record.epochs} epochs.", "", *table]
    yaml_part = yaml.safe_dump(front, sort_keys=False).rstrip()
    return "\n".join(["---", yaml_part, "---", *text, "", *notes])


def crate(record: Record, name: str, files: Mapping[str, bytes], ended: float) -> dict[str, Any]:
    """Return the provenance: a Process Run Crate 0.5 in RO-Crate 1.1 (JSON-LD)."""
    when, data = datetime.fromtimestamp(ended, UTC).isoformat(timespec="seconds"), "#data"
    params = f"run/{find_params_file(record.folder).name}"
    results = [path for path in files if path.startswith("run/") and path != params]
    about = "A trained net, its code, and the record of its training."
    root: dict[str, Any] = {"@id": "./", "@type": "Dataset", "name": name, "description": about}
    root |= {"datePublished": when, "license": {"@id": "LICENSE"}, "conformsTo": {"@id": PROFILE}}
    root |= {"hasPart": _ids([*files]), "mentions": {"@id": "#training"}}
    action: dict[str, Any] = {"@id": "#training", "@type": "CreateAction"}
    action["name"] = f"Training of {name}"
    action |= {"instrument": {"@id": "train.py"}, "endTime": when, "result": _ids(results)}
    action |= {"object": _ids([params, data]), "description": "python train.py"}
    action["actionStatus"] = {"@id": "http://schema.org/CompletedActionStatus"}
    descriptor: dict[str, Any] = {"@id": "ro-crate-metadata.json", "@type": "CreativeWork"}
    descriptor |= {"conformsTo": {"@id": CRATE}, "about": {"@id": "./"}}
    profile = {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate"}
    facts = {"identifier": record.newest["data"]["sha256"], "name": str(record.data_dir.name)}
    graph = [descriptor, root, profile | {"version": "0.5"}, action]
    graph.append({"@id": data, "@type": "CreativeWork", "description": "the data", **facts})
    for path, content in files.items():
        kind: Any = ["File", "SoftwareApplication"] if path == "train.py" else "File"
        size = {"contentSize": str(len(content)), "sha256": hashlib.sha256(content).hexdigest()}
        graph.append({"@id": path, "@type": kind, "name": path, **size})
    return {"@context": f"{CRATE}/context", "@graph": graph}


def _ids(names: list[str]) -> list[dict[str, str]]:
    return [{"@id": name} for name in names]


def write_bundle(record: Record, target: Path, intervals: Intervals) -> list[str]:
    """Write a run and its code as one ZIP file; returns the names of what is in it.

    UsageError: the code is not that of the run any more, or there is no best.pt.
    """
    folder, name = record.folder, record.folder.resolve().name
    if record.best is None or (changed := record.of_code()):
        faults = ["there is no best.pt that can be read"] if record.best is None else changed
        raise UsageError(f"{folder}: cannot be bundled:\n{listed(faults, 3)}")
    code = {*OF_PROJECT, *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("core/**/*.py"))}
    code |= {path for path in record.resolved["code"] if (ROOT / path).is_file()}
    files = {path: (ROOT / path).read_bytes() for path in sorted(code) if (ROOT / path).is_file()}
    for pattern in (find_params_file(folder).name, *OF_RUN):
        files |= {f"run/{path.name}": path.read_bytes() for path in sorted(folder.glob(pattern))}
    splits = [*record.evaluations()]
    made = synthetic_note(record.data_dir) or ""
    facts = {"python": platform.python_version(), "split": splits[-1], **record.newest["data"]}
    files["README.md"] = README.format(name=name, made=made, **facts).encode()
    files["MODEL_CARD.md"] = model_card(record, name, intervals).encode()
    files["environment.lock.txt"] = lock().encode()
    graph = crate(record, name, files, (folder / "best.pt").stat().st_mtime)
    files["ro-crate-metadata.json"] = json.dumps(graph, indent=2).encode()
    with replacing(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path), content, zipfile.ZIP_DEFLATED)  # of no date
    return [*files]
