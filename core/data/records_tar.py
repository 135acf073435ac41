"""What lies where in an uncompressed tar archive (POSIX ustar and pax, GNU long names)."""

import zlib
from collections.abc import Callable, Iterator

from core.base.errors import DataError

BLOCK = 512  # bytes: headers begin at multiples of it
END = bytes(BLOCK)
COMPRESSED = {"gz": b"\x1f\x8b", "zst": b"\x28\xb5\x2f\xfd", "bz2": b"BZh", "xz": b"\xfd7zXZ"}

Member = tuple[str, str, int, int, int]  # key, part, where its headers begin, its content, length


def members(
    read: Callable[[int, int], bytes], path: object, size: int, whole: bool
) -> Iterator[Member]:
    """Yield the files that belong to records, of an archive or of a stretch of one.

    As WebDataset reads names, the key ends at the first dot of a file's own name: cats/17.seg.png
    is the part "seg.png" of cats/17. Other files, such as README and .hidden, are left out.

    Args:
        read: gives bytes of it, by (offset, size).
        path: of the archive, for messages: DataError tells that it is damaged or holds links.
        size: bytes there are.
        whole: whether the mark of an archive's end must follow.
    """
    place = begin = 0
    longer: dict[bytes, bytes] = {}  # what does not fit into a header
    while place < size:
        header = read(place, BLOCK)
        if header == END:
            if whole and read(place, 2**20).strip(b"\0"):
                raise DataError(f"{path}: more follows its end, as `cat` joins archives; want one")
            return
        kind, start = header[156:157], place + BLOCK
        try:
            length, more = _length(header), kind in b"xXLKg"  # more: of the next header
            if not more and b"size" in longer:
                length = int(longer[b"size"])
            if kind in b"xX":
                longer |= _pax(read(start, length))
        except ValueError:
            raise DataError(_no_header(header, path, place)) from None
        if kind == b"L":
            longer[b"path"] = read(start, length).rstrip(b"\0")
        name = (longer.get(b"path") or _name(header)).decode("utf-8", "surrogateescape")
        if not start <= start + length <= size:
            told = f"{size} bytes, want at least {start + length}"
            raise DataError(f"{path}: cut off inside of {name}: {told}")
        place = start - -length // BLOCK * BLOCK
        if more:
            continue
        folder, slash, base = name.rpartition("/")
        stem, _, part = base.partition(".")
        if kind == b"S" or b"sparse" in longer or (stem and part and kind in b"12"):
            raise DataError(f"{path}: {name} is a link or has holes, want the content of each file")
        if stem and part and kind in b"0\0007":
            yield folder + slash + stem, part.lower(), begin, start, length
        begin, longer = place, {}
    if whole:
        raise DataError(f"{path}: cut off: the empty block is missing that ends a tar archive")


def _length(header: bytes) -> int:
    """Return the length that a header tells of its content; ValueError if its checksum is wrong."""
    stored, field = int(header[148:156].strip(b"\0 "), 8), header[124:136]
    # Adler-32 has the sum of the bytes in its lower half, and takes a tenth of sum()'s time.
    sums = (stored + sum(header[148:156]) - 8 * 32 + 1) % 65521
    if len(header) != BLOCK or sums != zlib.adler32(header) & 0xFFFF:
        raise ValueError
    large = field[0] & 0x80  # above 8 GiB, as GNU writes it
    return int.from_bytes(field[1:]) if large else int(field.strip(b"\0 ") or b"0", 8)


def _name(header: bytes) -> bytes:
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    name = header[:100].partition(b"\0")[0]
    return prefix + b"/" + name if prefix else name


def _pax(content: bytes) -> dict[bytes, bytes]:
    """Return the path and size in a pax header, whose lines are "LENGTH KEY=VALUE"."""
    found = {}
    while content:
        length = int(content.partition(b" ")[0])
        line, content = content[:length], content[length:]
        key, _, value = line.partition(b" ")[2].partition(b"=")
        if not value.endswith(b"\n"):
            raise ValueError
        if key in (b"path", b"size"):
            found[key] = value[:-1]
        elif key.startswith(b"GNU.sparse"):
            found[b"sparse"] = value
    return found


def _no_header(header: bytes, path: object, place: int) -> str:
    if found := [name for name, magic in COMPRESSED.items() if header.startswith(magic)]:
        told = f"{path}: compressed ({found[0]}), so nothing in it has a place."
        return f"{told} Decompress it: pictures hardly shrink by it"
    return f"{path}: no tar archive, damaged, or cut off: no header at byte {place}"
