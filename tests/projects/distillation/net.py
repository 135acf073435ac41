import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.projects.distillation.teacher.net import Net as Teacher
from utils import Params, load_checkpoint

TEMPERATURE = 2.0


class Net(nn.Module):
    """A small net learns what a large one answers (Hinton et al. 2015)."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.teacher = Teacher(params)
        self.teacher.requires_grad_(False)
        self.student = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.2), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            teacher = self.teacher(x)
        return self.student(x), teacher


def initialize(model: Net, params: Params) -> None:
    if params.teacher is not None:  # a checkpoint of the teacher's run
        load_checkpoint(params.teacher, model.teacher)


def loss_fn(outputs: tuple[Tensor, Tensor], labels: Tensor) -> dict[str, Tensor]:
    student, teacher = outputs
    targets = F.softmax(teacher / TEMPERATURE, dim=1)
    soft = F.kl_div(F.log_softmax(student / TEMPERATURE, dim=1), targets, reduction="batchmean")
    hard = F.cross_entropy(student, labels)
    return {"loss": 0.5 * (soft + hard), "soft": soft, "hard": hard}


def accuracy(outputs: tuple[np.ndarray, np.ndarray], labels: np.ndarray) -> float:
    return float(np.mean(outputs[0].argmax(1) == labels))


metrics = {"accuracy": accuracy}


def predict(model: Net, inputs: Tensor, params: Params) -> list[dict[str, object]]:
    best = model.student(inputs).softmax(1).max(dim=1)  # (B, 3) to (B,)
    found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [{"class": k, "probability": p} for k, p in found]
