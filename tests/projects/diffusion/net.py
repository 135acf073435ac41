from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.projects.vae.net import normal
from utils import Params, png

waived_checks = {
    "no output depends on other examples": "the net draws noise for each example",
    "evaluation repeats itself": "the noise depends on the seed; evaluate.py always takes the same",
}


class Net(nn.Module):
    """A small U-Net says what noise was added to a picture (DDPM, Ho et al. 2020)."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.steps, width, wide = params.steps, params.width, 2 * params.width
        betas = torch.linspace(1e-3, 0.4, self.steps)  # in the end hardly any picture is left
        self.register_buffer("kept", (1 - betas).cumprod(0))  # of the picture after each step
        self.time, self.first = nn.Embedding(self.steps, width), nn.Conv2d(1, width, 3, padding=1)
        self.down, self.up = nn.Conv2d(width, wide, 2, 2), nn.ConvTranspose2d(wide, width, 2, 2)
        self.inner = nn.Conv2d(wide, wide, 3, padding=1)
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """Map noisy pictures (B, 1, H, W) and step numbers (B,) to the noise in them."""
        h = F.silu(self.first(x) + self.time(step)[:, :, None, None])  # (B, C, H, W)
        low = F.silu(self.down(h))  # (B, 2C, H/2, W/2)
        return self.last(F.silu(h + self.up(low + F.silu(self.inner(low)))))


def forward(model: Any, batch: Any, params: Params) -> tuple[Tensor, Tensor]:
    x = batch[0]
    draws = normal(len(x), 1 + x[0].numel()).to(x)  # one row an example, whatever the batch size
    step = (torch.special.ndtr(draws[:, 0]) * model.steps).long().clamp(max=model.steps - 1)
    noise, kept = draws[:, 1:].reshape(x.shape), model.kept[step][:, None, None, None]
    return model(kept.sqrt() * x + (1 - kept).sqrt() * noise, step), noise


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.mse_loss(outputs, labels)


metrics: dict[str, object] = {}


def predict(model: Any, inputs: Tensor, params: Params) -> list[bytes]:
    x = torch.randn(len(inputs), 1, 8, 8).to(model.kept)
    for i in reversed(range(model.steps)):
        kept, before = model.kept[i], model.kept[i - 1] if i else torch.ones(())
        beta = 1 - kept / before
        noise = model(x, torch.full((len(x),), i, device=x.device))
        x = (x - beta / (1 - kept).sqrt() * noise) / (1 - beta).sqrt()
        x = x + (beta.sqrt() * torch.randn_like(x) if i else 0)
    large = F.interpolate(x.clamp(-1, 1), scale_factor=8.0)[:, 0]  # (B, 64, 64)
    return [png((127.5 * (picture + 1)).to(torch.uint8)) for picture in large]
