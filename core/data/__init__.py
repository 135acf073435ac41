"""Loaders: batches in an exact order, from memory, datasets or streams."""

from core.data.folder import fingerprint as fingerprint
