"""Loaders: batches in an exact order, from memory, datasets or streams."""
