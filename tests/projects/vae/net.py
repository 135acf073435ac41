import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import Params, png

labelled = False  # the loss holds pictures against themselves
waived_checks = {
    "no output depends on other examples": "the net draws noise for each example",
    "evaluation repeats itself": "the noise depends on the seed; evaluate.py always takes the same",
}


def normal(*shape: int) -> Tensor:
    """Draw from a normal distribution, the same numbers whatever the size of the batch.

    torch.randn draws in another order from 16 numbers on; torch.rand does not.
    """
    return torch.special.ndtri(torch.rand(*shape).clamp(1e-6, 1 - 1e-6))


class Net(nn.Module):
    """A variational autoencoder (Kingma and Welling 2014) of pictures with 8 x 8 pixels."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        width, self.size = params.width, params.latent
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 2 * self.size)
        )
        self.decoder = nn.Sequential(
            nn.Linear(self.size, width), nn.ReLU(), nn.Linear(width, 64), nn.Unflatten(1, (1, 8, 8))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, dim=1)  # each (B, Z)
        noise = normal(*mean.shape).to(mean)
        return self.decoder(mean + noise * (0.5 * log_variance).exp()), mean, log_variance


def loss_fn(outputs: tuple[Tensor, Tensor, Tensor], labels: Tensor) -> dict[str, Tensor]:
    pictures, mean, log_variance = outputs
    unlike = 50 * ((pictures.sigmoid() - labels) ** 2).sum((1, 2, 3))  # Gaussian, deviation 0.1
    apart = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)  # from N(0, 1), (B,)
    return {"loss": (unlike + apart).mean(), "unlike": unlike.mean(), "apart": apart.mean()}


metrics: dict[str, object] = {}


def predict(model: Net, inputs: Tensor, params: Params) -> list[bytes]:
    if inputs.numel():  # pictures to reconstruct, (B, 1, 8, 8)
        hidden = model.encoder(inputs).chunk(2, dim=1)[0]  # the mean, (B, Z)
    else:  # samples
        hidden = normal(len(inputs), model.size).to(inputs)
    large = F.interpolate(model.decoder(hidden).sigmoid(), scale_factor=8.0)[:, 0]  # (B, 64, 64)
    return [png((255 * picture).to(torch.uint8)) for picture in large]
