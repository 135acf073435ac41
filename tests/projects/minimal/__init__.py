"""The smallest task: what `make new NAME=...` copies."""
