"""Bugs of regression, pictures, sequences and steps of one's own, one at a time."""
