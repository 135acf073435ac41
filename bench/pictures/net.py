"""The hand signs' net, or a ResNet-18 (He et al. 2016), for six classes."""

from torch import nn
from torchvision.models import resnet18

from model import net as signs
from model.net import NUM_CLASSES, class_names, loss_fn, metrics
from utils import Params

__all__ = ["Net", "class_names", "loss_fn", "metrics"]


def Net(params: Params) -> nn.Module:  # noqa: N802 - the contract's name
    """Return the net that `net` names: "signs", with `num_channels`, or "resnet18"."""
    return signs.Net(params) if params.net == "signs" else resnet18(num_classes=NUM_CLASSES)
