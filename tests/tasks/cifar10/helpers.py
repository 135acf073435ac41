"""What the tests of CIFAR-10 share."""

from typing import Any

from core.base.keys import KEYS
from utils import Params

SMALL = {"hidden_size": 30, "channel_1": 6, "channel_2": 4, "width": 4, "num_threads": 1}
TASK = "model.cifar10"
PLAIN = {"task": TASK, "optimizer": "SGD", "learning_rate": 1e-2}


def params(**values: Any) -> Params:
    defaults = {name: key.default for name, key in KEYS.items()}
    return Params.of(defaults | PLAIN | SMALL | values, "params.json")
