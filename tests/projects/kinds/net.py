import os
import random
import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import Params


class Net(nn.Module):
    means: Tensor

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.kind = params.kind
        self.calls = 0
        self.stop = Path(str(params.dict.get("data_dir"))) / f".stop{os.environ.get('RANK')}"
        self.dense: nn.Module = nn.Linear(4, 4 if self.kind == "autoencoder" else 3)
        if self.kind == "segmentation":
            self.dense = nn.Conv2d(3, 2, 1)
        if self.kind == "scalar":
            self.scale = nn.Parameter(torch.ones(()))
        if self.kind == "numpy_params":
            self.register_buffer("means", torch.from_numpy(params.means))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "numpy_params":
            x = x - self.means
        if self.kind == "drawing" and self.training:
            x = x + 0.1 * (torch.rand(()) + np.random.rand() + random.random())
        if self.kind == "failing" and self.training:
            raise RuntimeError("a fault of the task")
        if self.kind == "failing_alone" and self.training and os.environ.get("RANK") == "1":
            raise RuntimeError("a fault of process 1")
        if self.kind == "without_room" and self.training and os.environ.get("RANK") == "0":
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
        if self.kind == "stopping_alone" and self.training and self.stop.exists():
            self.calls += 1
            if self.calls == 3:
                self.stop.unlink()
                os.kill(os.getpid(), signal.SIGTERM)
        if self.kind == "stopping" and self.training:  # in the third batch of every start
            self.calls += 1
            if self.calls == 3:
                os.kill(os.getpid(), signal.SIGTERM)
        if self.kind == "stopping_in_evaluation" and not self.training:
            self.calls += 1
            if self.calls == 2 and self.stop.exists():  # the first was for the chance loss
                self.stop.unlink()
                os.kill(os.getpid(), signal.SIGTERM)
        return self.dense(x)


def blocks(model: Any) -> list[nn.Module]:
    return [nn.Linear(1, 1)] if model.kind == "foreign" else [model.dense]


def forward(model: nn.Module, batch: Any, params: Params) -> tuple[Any, Any]:
    if params.kind == "autoencoder":
        return (model(batch[0]), batch[0]), None
    if params.kind == "namedtuple":
        return model(batch.x), batch.y
    return model(batch[0]), batch[1]


def loss_fn(outputs: Any, labels: Any) -> Tensor:
    if labels is None:
        return F.mse_loss(*outputs)
    if labels.ndim == 2:
        return F.binary_cross_entropy_with_logits(outputs, labels.float())
    return F.cross_entropy(outputs, labels)


def agreement(outputs: Any, labels: Any) -> float:
    if labels is None:
        return 0.0
    if labels.ndim == 2:
        return float(np.mean((outputs > 0) == labels))
    return float(np.mean(outputs.argmax(1) == labels))


metrics = {"agreement": agreement}


def make_scheduler(optimizer: Any, params: Params, steps_per_epoch: int) -> Any:
    if params.kind != "scheduler":
        return None
    steps = params.num_epochs * steps_per_epoch
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
