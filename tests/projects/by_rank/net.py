"""A project whose loaders differ between processes: `differs` says in what."""

from tests.projects.weighted.net import Net, loss_fn, loss_weight, metrics

__all__ = ["Net", "loss_fn", "loss_weight", "metrics"]
