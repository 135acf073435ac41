from tests.projects.linear.data_loader import fetch_dataloader

__all__ = ["fetch_dataloader"]
