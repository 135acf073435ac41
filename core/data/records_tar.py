"""What lies where in an uncompressed tar archive (POSIX ustar and pax, GNU long names)."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from core.base.errors import DataError

BLOCK = 512  # bytes: headers begin at multiples of it
FILES = (b"0", b"\0", b"7")
COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}

Read = Callable[[int, int], bytes]  # of (offset, size)


def members(read: Read, path: Path, size: int, whole: bool) -> Iterator[tuple[str, int, int, int]]:
    """Yield (name, begin, start, length) of the files in an archive, or in a stretch of one.

    Args:
        read: gives bytes of it.
        path: of the archive, for messages.
        size: bytes there are.
        whole: whether the mark of an archive's end must follow.

    Yields:
        The name of a file; where its headers begin, where its content does, and how long that is.

    Raises:
        DataError: the archive is compressed, damaged or cut off.
    """
    place = begin = 0
    longer: dict[str, bytes] = {}  # what does not fit into a header
    while place < size:
        header = read(place, BLOCK)
        if header == bytes(BLOCK):
            return
        length = _length(header, path, place)
        kind, start = header[156:157], place + BLOCK
        if kind == b"x":
            longer |= _pax(read(start, length))
        elif kind == b"L":
            longer["path"] = read(start, length).rstrip(b"\0")
        place = start - -length // BLOCK * BLOCK
        if kind in b"xLKg":
            continue
        name = longer.get("path") or _name(header)
        if "size" in longer:
            length = int(longer["size"])
            place = start - -length // BLOCK * BLOCK
        if start + length > size:
            told = f"{path}: cut off inside of {name.decode(errors='replace')}: "
            raise DataError(told + f"{size} bytes, want at least {start + length}")
        if kind in FILES:
            yield name.decode("utf-8", "surrogateescape"), begin, start, length
        begin, longer = place, {}
    if whole:
        raise DataError(f"{path}: cut off: the empty block is missing that ends a tar archive")


def key_and_part(name: str) -> tuple[str, str]:
    """Return "cats/17" and "seg.png" of a file cats/17.seg.png; no part of one that has no record.

    So WebDataset reads names: the key ends at the first dot of the file's own name.
    """
    folder, slash, base = name.rpartition("/")
    stem, _, part = base.partition(".")
    return folder + slash + stem, part.lower() if stem else ""


def _length(header: bytes, path: Path, place: int) -> int:
    """Return the length that a header tells of its content, if its checksum is right."""
    for magic, name in COMPRESSED.items():
        if place == 0 and header.startswith(magic):
            told = f"{path}: compressed by {name}, so nothing in it has a place."
            raise DataError(f"{told} Decompress it: pictures hardly shrink by it")
    try:
        stored, field = int(header[148:156].strip(b"\0 "), 8), header[124:136]
        # Adler-32 has the sum of the bytes in its lower half, and takes a tenth of sum()'s time.
        sums = (stored + sum(header[148:156]) - 8 * 32 + 1) % 65521
        if len(header) == BLOCK and sums == zlib.adler32(header) & 0xFFFF:
            large = field[0] & 0x80  # above 8 GiB, as GNU writes it
            return int.from_bytes(field[1:]) if large else int(field.strip(b"\0 ") or b"0", 8)
    except ValueError:
        pass
    raise DataError(f"{path}: no tar archive, damaged, or cut off: no header at byte {place}")


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _pax(content: bytes) -> dict[str, bytes]:
    """Return the path and size in a pax header, whose lines are "LENGTH KEY=VALUE"."""
    found: dict[str, bytes] = {}
    while content:
        length = int(content.partition(b" ")[0])
        key, _, value = content[:length].partition(b" ")[2].partition(b"=")
        found[key.decode(errors="replace")] = value.removesuffix(b"\n")
        content = content[length:]
    return {key: value for key, value in found.items() if key in ("path", "size")}
