"""Hand signs: which number of fingers, 0 to 5, does a 64x64 photograph show?

The net of the CS230 project template: three blocks of convolution, batch normalisation, max-pooling
and ReLU, then two linear layers. Shapes: B batch, C channels, H W pixels, K classes, N examples.
"""

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from utils import Params, confusion_matrix, macro_average

NUM_CLASSES = 6
LABEL_SMOOTHING = 0.1  # Szegedy et al. 2016, section 7


class Net(nn.Module):
    """Score the six hand signs."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        c = params.num_channels
        self.conv1 = nn.Conv2d(3, c, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(c)
        self.conv2 = nn.Conv2d(c, 2 * c, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * c)
        self.conv3 = nn.Conv2d(2 * c, 4 * c, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(4 * c)
        self.fc1 = nn.Linear(8 * 8 * 4 * c, 4 * c)
        self.fcbn1 = nn.BatchNorm1d(4 * c)
        self.dropout = nn.Dropout(params.dropout_rate)
        self.fc2 = nn.Linear(4 * c, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, 64, 64) images to (B, 6) logits.

        In evaluation they are the mean over an image and its mirror image, which shows the same
        number (as in Krizhevsky et al. 2012, section 4.1).
        """
        if self.training:
            return self.score(images)
        return (self.score(images) + self.score(images.flip(3))) / 2

    def score(self, images: Tensor) -> Tensor:
        """Map (B, 3, 64, 64) images to (B, 6) logits."""
        x = F.relu(F.max_pool2d(self.bn1(self.conv1(images)), 2))  # (B, C, 32, 32)
        x = F.relu(F.max_pool2d(self.bn2(self.conv2(x)), 2))  # (B, 2C, 16, 16)
        x = F.relu(F.max_pool2d(self.bn3(self.conv3(x)), 2))  # (B, 4C, 8, 8)
        x = x.flatten(1)  # (B, 4C*8*8)
        x = self.dropout(F.relu(self.fcbn1(self.fc1(x))))  # (B, 4C)
        return self.fc2(x)  # (B, 6)


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy () of logits (B, 6) and labels (B,), in nats."""
    return F.cross_entropy(outputs, labels, label_smoothing=LABEL_SMOOTHING)


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of right answers among logits (N, 6) for labels (N,)."""
    return float(np.mean(outputs.argmax(axis=1) == labels))


def macro_scores(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (3,): precision, recall and F1, each the plain mean over the classes that occur.

    A class in neither labels (N,) nor predictions does not count, as in scikit-learn.
    """
    return macro_average(confusion_matrix(outputs.argmax(axis=1), labels, NUM_CLASSES))


metrics = {
    "accuracy": accuracy,
    "precision": lambda outputs, labels: macro_scores(outputs, labels)[0],
    "recall": lambda outputs, labels: macro_scores(outputs, labels)[1],
    "f1": lambda outputs, labels: macro_scores(outputs, labels)[2],
}


def class_names(params: Params) -> list[str]:
    """Return the names of the six classes: the number of fingers."""
    return [str(number) for number in range(NUM_CLASSES)]
