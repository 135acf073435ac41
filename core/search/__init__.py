"""Searches of hyperparameters."""
