from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou

from tests.projects.shapes import NAMES
from utils import Params


def Net(params: Params) -> FCOS:  # noqa: N802 - a function may make the net
    """Make an FCOS detector (Tian et al. 2019) of torchvision over a small body of our own."""
    width, layers = params.width, list[nn.Module]()
    for inputs, outputs in ((3, width), (width, 2 * width), (2 * width, 2 * width)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
    body = nn.Sequential(*layers)
    body.out_channels = 2 * width  # FCOS asks for it
    anchors = AnchorGenerator(sizes=((16,),), aspect_ratios=((1.0,),))
    size = {"min_size": 64, "max_size": 64}
    return FCOS(body, len(NAMES), anchor_generator=anchors, score_thresh=0.3, **size)


def train_step(state: Any, batch: Any) -> dict[str, Tensor]:
    losses = state.model(*batch)  # in train mode the model returns its losses
    loss = torch.stack([*losses.values()]).sum()
    state.update(loss)
    return {"loss": loss} | losses


def forward(model: nn.Module, batch: Any, params: Params) -> tuple[Any, Any]:
    pictures, targets = batch
    return model(pictures), targets  # in eval mode the model returns boxes


def error(found: dict[str, Any], target: dict[str, Any]) -> float:
    """Return 1 - F1 of a picture: a hit is a shape with a box of its kind at IoU 0.5."""
    found, target = ({k: torch.as_tensor(v) for k, v in each.items()} for each in (found, target))
    alike = target["labels"][:, None] == found["labels"]
    hits = (box_iou(target["boxes"], found["boxes"]) > 0.5) & alike
    hit = int(hits.any(dim=1).sum()) if len(found["boxes"]) else 0
    return 1 - 2 * hit / (len(found["boxes"]) + len(target["boxes"]))


def loss_fn(outputs: list[Any], labels: list[Any]) -> Tensor:
    pairs = zip(outputs, labels, strict=True)
    return torch.tensor([error(*pair) for pair in pairs]).mean()


def f1(outputs: list[Any], labels: list[Any]) -> float:
    return 1 - sum(error(*pair) for pair in zip(outputs, labels, strict=True)) / len(labels)


metrics = {"f1": f1}


def predict(model: nn.Module, inputs: Tensor, params: Params) -> list[dict[str, Any]]:
    found = [{name: value.tolist() for name, value in each.items()} for each in model([*inputs])]
    return [each | {"labels": [NAMES[k] for k in each["labels"]]} for each in found]
