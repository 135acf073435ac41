"""Prepared data folders: built aside, swapped in whole, and described by a manifest.json.

Beside it lies croissant.json, a description in the form of MLCommons Croissant 1.0 (JSON-LD), which
data catalogues and other libraries read.
"""

import contextlib
import hashlib
import itertools
import json
import mimetypes
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.base.errors import UsageError, listed
from core.data.folder import CROISSANT, MANIFEST
from core.machine.locks import one_writer

OF_CROISSANT = """citeAs column equivalentProperty extract field fileObject fileProperty fileSet
format includes isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated
replace samplingRate separator source subField transform"""
CONTEXT: dict[str, Any] = {"@language": "en", "@vocab": "https://schema.org/"}  # of Croissant 1.0
CONTEXT |= {"sc": "https://schema.org/", "cr": "http://mlcommons.org/croissant/"}
CONTEXT |= {"rai": "http://mlcommons.org/croissant/RAI/", "dct": "http://purl.org/dc/terms/"}
CONTEXT |= {"dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "conformsTo": "dct:conformsTo"}
CONTEXT |= {name: {"@id": f"cr:{name}", "@type": "@json"} for name in ("data", "examples")}
CONTEXT |= {name: f"cr:{name}" for name in OF_CROISSANT.split()}


def check_output(output: Path, source: Path | None = None) -> None:
    """Make sure that replacing `output` removes nothing but what a prepare script made.

    Raises:
        UsageError: output overlaps the source, or holds files that no manifest.json lists, or
            lists with other contents.
    """
    inside, outside = output.resolve(), source.resolve() if source else None
    if outside and (inside.is_relative_to(outside) or outside.is_relative_to(inside)):
        raise UsageError(f"output {output} and source {source} overlap; choose another output")
    if inside.exists() and not inside.is_dir():
        raise UsageError(f"output {output} is a file; want a folder, or a name not yet taken")
    made = read_manifest(inside).get("files", {})
    ours = (MANIFEST, CROISSANT) if made else ()
    names = [name for name in _file_names(inside) if name not in ours]
    if extra := sorted(n for n in names if file_sha256(inside / n) != made.get(n)):
        raise UsageError(
            f"output {output} holds files that are not as its {MANIFEST} lists them. They may be\n"
            f"yours: move them away, or choose another output.\n{listed(extra, 3)}"
        )


@contextlib.contextmanager
def staging(output: Path, source: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `output` when the block ends without error.

    Until then the old output stays whole. The next run removes what a killed one left.

    Raises:
        UsageError: see `check_output`; or another process is building the same output.
    """
    check_output(output, source)
    output = output.resolve()  # a link to a folder on a larger disk stays a link
    workshop = output.parent / f".{output.name}.staging"
    new, old = workshop / "new", workshop / "old"
    workshop.mkdir(parents=True, exist_ok=True)
    with one_writer(workshop):
        _clear(new, old, output)
        try:
            new.mkdir(parents=True)
            yield new
            check_output(output, source)  # it may have changed in the meantime
            if output.exists():
                output.rename(old)
            new.rename(output)
        finally:
            _clear(new, old, output)
            shutil.rmtree(workshop, ignore_errors=True)


def _clear(new: Path, old: Path, output: Path) -> None:
    """Remove what a run left in its workshop; an old output cut off in mid-swap goes back."""
    if old.exists() and not output.exists():
        old.rename(output)
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)


def write_manifest(
    folder: Path, made_by: str, description: str, *, generated: bool, seed: int | None = None
) -> dict[str, Any]:
    """Write `folder`'s manifest.json and return what it says.

    Args:
        folder: the finished data; every file below it is listed with its SHA-256.
        made_by: the script, as a path from the repository's root.
        description: one sentence, shown wherever results on these data are shown.
        generated: true if a program made up the data, false if they were recorded or collected.
        seed: of whatever was random, if anything was.
    """
    files = {name: file_sha256(folder / name) for name in sorted(_file_names(folder))}
    manifest = {
        "made_by": made_by,
        "generated": generated,
        "description": description,
        "seed": seed,
        "files": files,
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    # A byte of a name that is not UTF-8 becomes JSON's own \\udc80 to \\udcff.
    (folder / MANIFEST).write_bytes(text.encode("utf-8", "backslashreplace"))
    return manifest


def write_croissant(folder: Path, name: str, records: Mapping[str, Sequence[Any]]) -> None:
    """Write `folder`'s croissant.json, from its manifest: its files, and the records in them.

    A folder that fields come from is a FileSet; the manifest, whose hash is there, seals its files.

    Args:
        folder: with a manifest.
        name: of the data set.
        records: the fields, each as `field` returns it, of every set of records, by its name.
    """
    manifest = read_manifest(folder)
    files = manifest["files"] | {MANIFEST: file_sha256(folder / MANIFEST)}
    origins = [each["source"].get("fileSet", {}) for fields in records.values() for each in fields]
    sets = dict.fromkeys(origin["@id"] for origin in origins if origin)
    distribution: list[dict[str, Any]] = []
    for place in sets:
        one = {"@type": "cr:FileSet", "@id": place, "name": place, "includes": f"{place}/*"}
        distribution.append(
            one | {"encodingFormat": _format(next((folder / place).iterdir()).name)}
        )
    for file in (file for file in files if Path(file).parent.as_posix() not in sets):
        one = {"@type": "cr:FileObject", "@id": file, "name": file, "contentUrl": file}
        one |= {"contentSize": f"{(folder / file).stat().st_size} B", "sha256": files[file]}
        distribution.append(one | {"encodingFormat": _format(file)})
    record_sets = []
    for key, fields in records.items():
        parts = [{**each, "@id": f"{key}/{each['name']}"} for each in fields]
        record_sets.append({"@type": "cr:RecordSet", "@id": key, "name": key, "field": parts})
    content: dict[str, Any] = {"@context": CONTEXT, "@type": "sc:Dataset", "name": name}
    content |= {"description": manifest["description"]}
    content |= {"conformsTo": "http://mlcommons.org/croissant/1.0"}
    content |= {"distribution": distribution, "recordSet": record_sets}
    text = json.dumps(content, indent=2) + "\n"
    (folder / CROISSANT).write_text(text, encoding="utf-8", newline="\n")


def field(name: str, kind: str, about: str, source: str, part: str, regex: str = "") -> Any:
    """Return a field of Croissant.

    Args:
        name: of the field.
        kind: its type in schema.org, such as Text.
        about: what it holds.
        source: the file that it comes from, or the folder if that has many.
        part: of each file: content, lines or filename.
        regex: what of that part it is, in parentheses.
    """
    origin = {"fileObject" if Path(source).suffix else "fileSet": {"@id": source}}
    origin["extract"] = {"fileProperty": part}
    if regex:
        origin["transform"] = {"regex": regex}
    found = {"@type": "cr:Field", "name": name, "dataType": f"sc:{kind}", "description": about}
    return found | {"source": origin}


def _format(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest that a prepare script wrote into `folder`; {} if there is none."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) and "made_by" in manifest else {}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def repeated_pairs(hashes: Mapping[str, str]) -> list[str]:
    """Pairs with equal hashes in different splits, as "name = name"; a name is "split/example"."""
    same = defaultdict(list)
    for name, digest in sorted(hashes.items()):
        same[digest].append(name)
    pairs = [pair for names in same.values() for pair in itertools.combinations(names, 2)]
    return [f"{a} = {b}" for a, b in sorted(pairs) if a.split("/")[0] != b.split("/")[0]]


def _file_names(folder: Path) -> Iterator[str]:
    """Paths of the files below `folder`, hidden ones (.DS_Store, caches) left out."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if not path.is_dir() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix()
