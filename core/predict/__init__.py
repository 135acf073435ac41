"""Answers of a net for new inputs, and its export: what predict.py does."""
