"""A run and its folder: how it starts, what it writes and says."""
