import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.projects.planted import net as this
from utils import Params

kind = fault = ""  # of the net that was made last; globals, as unsound nets have them


class Net(nn.Module):
    def __init__(self, params: Params) -> None:
        super().__init__()
        this.kind, this.fault = params.kind, params.fault
        outputs = 2 if params.kind != "numbers" or params.fault.endswith("yes or no") else 1
        self.words = nn.Embedding(90, 8) if params.kind in ("sequences", "letters") else None
        if params.kind == "letters":
            both = params.fault == "an RNN that goes both ways"
            self.rnn = nn.GRU(8, 8, batch_first=True, bidirectional=both)
            self.letters = nn.Linear(16 if both else 8, 90)
            return
        size = {"numbers": 4, "pictures": 3 * 24 * 24, "sequences": 8}[params.kind]
        self.layers = nn.Sequential(nn.Linear(size, 16), nn.ReLU(), nn.Linear(16, outputs))

    def forward(self, x: Tensor) -> Tensor:
        if this.kind == "letters":
            assert self.words is not None
            return self.letters(self.rnn(self.words(x))[0])  # (B, T, K)
        if self.words is not None:
            words = self.words(x)  # (B, T, E)
            if this.fault == "the last column of padding":
                return self.layers(words.cumsum(1)[:, -1])
            there = torch.ones_like(x) if this.fault == "a mean over padding" else (x > 0).long()
            x = (words * there.unsqueeze(2)).sum(1) / there.sum(1, keepdim=True)
        outputs = self.layers(x.flatten(1))
        if this.fault == "softmax of yes or no":
            outputs = outputs.softmax(1)
        if this.fault in ("sigmoid of yes or no", "sigmoid and its loss of yes or no"):
            outputs = outputs.sigmoid()
        if this.fault == "relu on numbers below 0":
            outputs = outputs.relu()
        if this.fault == "tanh of large numbers":
            outputs = outputs.tanh()
        return outputs if outputs.shape[1] > 1 else outputs.squeeze(1)


def forward(
    model: nn.Module, batch: tuple[Tensor, Tensor], params: Params
) -> tuple[Tensor, Tensor]:
    inputs, labels = batch
    outputs = model(inputs)
    if this.fault == "labels that are read in evaluation":
        outputs = outputs + 0.1 * labels
    return outputs, labels


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    if this.kind == "letters":
        return F.cross_entropy(outputs.transpose(1, 2), labels)
    if this.kind != "numbers":
        if this.fault == "a crash of the loss":
            return F.cross_entropy(outputs, labels.float().unsqueeze(1).repeat(1, 5))
        if this.fault == "class weights upside down":
            return F.cross_entropy(outputs, labels, torch.tensor([0.875, 0.125]))
        return F.cross_entropy(outputs, labels)
    if this.fault == "pos_weight upside down of yes or no":
        weight = torch.tensor([0.2, 0.2])
        return F.binary_cross_entropy_with_logits(outputs, labels, pos_weight=weight)
    if this.fault in ("sigmoid and its loss of yes or no", "softmax of yes or no"):
        return F.binary_cross_entropy(outputs, labels)
    if this.fault.endswith("yes or no"):
        return F.binary_cross_entropy_with_logits(outputs, labels)
    return F.mse_loss(outputs, labels)


def error(outputs: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(np.abs(outputs.T - labels.T))) if outputs.ndim < 3 else 0.0


def rounded(outputs: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(np.round(outputs) == labels)) if outputs.ndim == labels.ndim else 0.0


metrics = {"error": error, "rounded": rounded}
