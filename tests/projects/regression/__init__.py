"""Regression: the best epoch has the smallest error."""
