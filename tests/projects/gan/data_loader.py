from tests.projects.data import fetch_dataloader
from tests.projects.diffusion.data_loader import read_inputs

__all__ = ["fetch_dataloader", "read_inputs"]
