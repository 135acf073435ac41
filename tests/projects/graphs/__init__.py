"""Batches that are objects of a library, with a method `to`, as those of torch-geometric are."""
