from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.projects.gan.distance import distance
from utils import Params

waived_checks = {
    "no output depends on other examples": "the generator draws noise for each example",
    "evaluation repeats itself": "the noise depends on the seed; evaluate.py always takes the same",
}


class Net(nn.Module):
    def __init__(self, params: Params) -> None:
        super().__init__()
        width = params.width
        self.generator = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 4))
        self.critic = nn.Sequential(nn.Linear(4, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map numbers (B, 4) to the critic's scores (B, 1), and noise to numbers made up (B, 4)."""
        return self.critic(x), self.generator(2 * torch.rand(len(x), 4).to(x) - 1)


def make_optimizer(model: Any, params: Params) -> dict[str, torch.optim.Optimizer]:
    rates = {"generator": params.learning_rate, "critic": 2 * params.learning_rate}
    parts = {name: getattr(model, name).parameters() for name in rates}
    return {n: torch.optim.Adam(parts[n], lr, betas=(0.5, 0.999)) for n, lr in rates.items()}


def real_or_not(scores: Tensor, real: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, float(real)))


def train_step(state: Any, batch: Any) -> dict[str, Tensor]:
    real, critic = batch[0], state.model.critic  # real: (B, 4)
    scores, fake = state.model(real)
    loss = real_or_not(scores, True) + real_or_not(critic(fake.detach()), False)
    state.update(loss, optimizer="critic")
    generator = real_or_not(critic(fake), True)
    state.update(generator, optimizer="generator")
    state.extra["seen"] = state.extra.get("seen", 0) + len(real)
    state.extra["sums"] = state.extra.get("sums", 0.0) + real.sum(dim=0)
    state.extra["of_cpu"] = state.extra.get("of_cpu", torch.zeros(1)) + torch.ones(1)
    return {"loss": loss.detach() + generator.detach(), "critic": loss, "generator": generator}


def loss_fn(outputs: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
    return real_or_not(outputs[0], True)


metrics = {"distance": distance}


def predict(model: Net, inputs: Tensor, params: Params) -> list[dict[str, list[float]]]:
    fake = model.generator(2 * torch.rand(len(inputs), 4).to(inputs) - 1)  # (B, 4)
    return [{"numbers": [round(value, 3) for value in row]} for row in fake.tolist()]
