"""Moving averages of the weights."""

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage(AveragedModel):
    """Exponential moving averages of a net's weights, beside its newest buffers."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def update(self, model: nn.Module) -> None:
        """Do what `update_parameters` does, without waiting for a GPU in every step.

        That copies the number of updates to the weights' device, where a moving average needs none.
        """
        if not self.n_averaged:  # a tensor of the CPU
            self.update_parameters(model)
            return
        averages, weights = ([w.detach() for w in net.parameters()] for net in (self.module, model))
        assert self.multi_avg_fn is not None
        self.multi_avg_fn(averages, weights, self.n_averaged)
        for own, new in zip(self.module.buffers(), model.buffers(), strict=True):
            own.copy_(new)
        self.n_averaged += 1
