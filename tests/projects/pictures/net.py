import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from utils import Params, confusion_matrix, macro_average

NUM_CLASSES = 6
LABEL_SMOOTHING = 0.1


class Net(nn.Module):
    def __init__(self, params: Params) -> None:
        super().__init__()
        c = params.num_channels
        self.conv1 = nn.Conv2d(3, c, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.fc1 = nn.Linear(8 * 8 * c, 16 * c, bias=False)
        self.fcbn1 = nn.BatchNorm1d(16 * c)
        self.dropout = nn.Dropout(params.dropout_rate)
        self.fc2 = nn.Linear(16 * c, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, 16, 16) images to (B, 6) logits."""
        x = F.relu(F.max_pool2d(self.bn1(self.conv1(images)), 2))  # (B, C, 8, 8)
        x = self.dropout(F.relu(self.fcbn1(self.fc1(x.flatten(1)))))  # (B, 16C)
        return self.fc2(x)


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels, label_smoothing=LABEL_SMOOTHING)


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(outputs.argmax(axis=1) == labels))


def macro_scores(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (3,): precision, recall and F1, each the plain mean over the classes that occur."""
    return macro_average(confusion_matrix(outputs.argmax(axis=1), labels, NUM_CLASSES))


metrics = {
    "accuracy": accuracy,
    "precision": lambda outputs, labels: macro_scores(outputs, labels)[0],
    "recall": lambda outputs, labels: macro_scores(outputs, labels)[1],
    "f1": lambda outputs, labels: macro_scores(outputs, labels)[2],
}


def class_names(params: Params) -> list[str]:
    return [str(number) for number in range(NUM_CLASSES)]
