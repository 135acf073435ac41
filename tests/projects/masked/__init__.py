"""Batches that are dicts, with a mask that says which numbers count."""
