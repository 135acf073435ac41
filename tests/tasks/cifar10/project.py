from pathlib import Path

from data.cifar10.prepare import main as prepare
from tests.projects.registry import Project


def make_data(folder: Path) -> None:
    """Draw 98, 2 and 20 images."""
    assert prepare(["--output", str(folder), "--count", "120"]) == 0


def project(net: str, level: str) -> Project:
    params = {"net": net, "level": level, "optimizer": "SGD", "learning_rate": 0.01}
    params |= {"channel_1": 6, "channel_2": 4, "width": 8, "flip": True, "shift": 2}
    return Project("model.cifar10", params | {"batch_size": 16}, make_data)


PROJECTS = {
    "cifar10_bare": project("three_layer_convnet", "bare"),
    "cifar10_module": project("three_layer_convnet", "module"),
    "cifar10_sequential": project("three_layer_convnet", "sequential"),
    "cifar10_resnet": project("resnet", "module"),
}
