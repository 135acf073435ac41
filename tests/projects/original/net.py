import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, params):  # type: ignore[no-untyped-def]
        super(Net, self).__init__()  # noqa: UP008 - as such code is written
        self.conv = nn.Conv2d(3, params.num_channels, 3, stride=1, padding=1)
        self.bn = nn.BatchNorm2d(params.num_channels)
        self.fc = nn.Linear(params.num_channels * 4 * 4, 6)
        self.dropout_rate = params.dropout_rate

    def forward(self, s):  # type: ignore[no-untyped-def]
        s = F.relu(F.max_pool2d(self.bn(self.conv(s)), 4))
        s = s.view(-1, s.size(1) * 4 * 4)
        s = F.dropout(s, p=self.dropout_rate, training=self.training)
        return F.log_softmax(self.fc(s), dim=1)


def loss_fn(outputs, labels):  # type: ignore[no-untyped-def]
    num_examples = outputs.size()[0]
    return -torch.sum(outputs[range(num_examples), labels]) / num_examples


def accuracy(outputs, labels):  # type: ignore[no-untyped-def]
    outputs = np.argmax(outputs, axis=1)
    return np.sum(outputs == labels) / float(labels.size)


metrics = {"accuracy": accuracy}
