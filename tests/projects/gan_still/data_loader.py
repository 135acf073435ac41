from tests.projects.gan.data_loader import fetch_dataloader

__all__ = ["fetch_dataloader"]
