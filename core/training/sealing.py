"""The seal behind a file's content: its SHA-256, its length and a magic word, 48 bytes in all."""

import hashlib
import struct
from typing import IO

MAGIC = b"SEALED01"
SEAL = struct.Struct("<32sQ8s")  # SHA-256, length of what it covers, MAGIC


class Sealing:
    """A file for torch.save that takes SHA-256 and length of what goes through it.

    An error of the disk is kept until `seal`: an exception must not pass through torch's writer.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest, self.length = file, hashlib.sha256(), 0
        self.error: OSError | None = None

    def write(self, part: bytes | memoryview) -> int:
        """Take in the next part."""
        self.digest.update(part)
        self.length += len(part)
        if self.error is None:
            try:
                self.file.write(part)
            except OSError as error:
                self.error = error
        return len(part)

    def flush(self) -> None:
        """Do nothing: torch.save asks for it, and the file is synced later."""

    def seal(self) -> None:
        """Write the seal; raises the error that came up on the way."""
        if self.error is not None:
            raise self.error
        self.file.write(SEAL.pack(self.digest.digest(), self.length, MAGIC))


def unseal(data: bytes) -> memoryview:
    """Return what the seal covers; ValueError if there is no seal or it does not match."""
    view = memoryview(data)
    body, seal = view[: -SEAL.size], view[-SEAL.size :]
    if len(seal) < SEAL.size or bytes(seal[-len(MAGIC) :]) != MAGIC:
        raise ValueError("its seal is missing, so the file is cut short or not ours")
    digest, length, _ = SEAL.unpack(seal)
    if length != len(body) or hashlib.sha256(body).digest() != digest:
        raise ValueError("its content does not match its seal, the file is damaged")
    return body
