from tests.projects.data import fetch_dataloader

__all__ = ["fetch_dataloader"]
