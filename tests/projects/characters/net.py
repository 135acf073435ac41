import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import Params


class Block(nn.Module):
    """Attention to what came before, then a small net for every letter (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        # No bias: attention does not depend on that of the keys, whose gradient is rounding alone.
        self.heads, self.parts = heads, nn.Linear(width, 3 * width, bias=False)
        self.join = nn.Linear(width, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.own = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = self.parts(self.norms[0](x)).chunk(3, dim=2)  # each (B, T, E)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)  # (B, H, T, E/H)
        x = x + self.join(mixed.transpose(1, 2).flatten(2))
        return x + self.own(self.norms[1](x))


class Net(nn.Module):
    def __init__(self, params: Params) -> None:
        super().__init__()
        width, letters = params.width, len(params.vocabulary)
        self.letters, self.places = nn.Embedding(letters, width), nn.Embedding(params.length, width)
        self.blocks = nn.Sequential(*(Block(width, params.heads) for _ in range(params.depth)))
        self.scores = nn.Linear(width, letters)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        return self.scores(self.blocks(self.letters(x) + self.places(places)))  # (B, T, K)


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), labels.flatten())


metrics = {"accuracy": lambda outputs, labels: float(np.mean(outputs.argmax(1) == labels))}


def predict(model: nn.Module, inputs: Tensor, params: Params) -> list[str]:
    text = inputs  # (B, T)
    for _ in range(params.sample_length):
        scores = model(text[:, -params.length :])[:, -1] / params.temperature  # (B, K)
        text = torch.cat([text, torch.multinomial(scores.softmax(1), 1)], dim=1)
    return ["".join(params.vocabulary[k] for k in row) for row in text]
