"""First weights of a new run, where its task says them."""

from torch import nn

from core.base.errors import UsageError
from core.base.params import Params
from core.machine import processes
from core.task import Task


def initialize(task: Task, model: nn.Module, params: Params) -> None:
    """Give a new run the first weights that its task says; UsageError if they are other objects."""
    if task.initialize is None:
        return
    before = dict(model.named_parameters())
    with processes.local_main_first():  # it may fetch a file
        task.initialize(model, params)
    for name, weight in model.named_parameters():
        if weight is not before.get(name):
            raise UsageError(
                f"initialize of net.py replaces {name}, which a resumed run does not know:\n"
                "fill the weights in place, with load_state_dict or copy_ under torch.no_grad()"
            )
