"""Named entities, tagged by a net that a loop written by hand trains: the speed limit.

Reads the encoded words and tags from a file, and prints its figures as one line of JSON.
"""

import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

BATCH_SIZE = 32


class Net(nn.Module):
    """The net of `model/ner/net.py`: embeddings of F features, one LSTM in either direction."""

    def __init__(self, sizes: list[int], tags: int) -> None:
        super().__init__()
        dims = [100] + [24] * (len(sizes) - 1)
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, dim, padding_idx=0) for size, dim in zip(sizes, dims, strict=True)
        )
        self.forwards = nn.LSTM(sum(dims), 200, batch_first=True)
        self.backwards = nn.LSTM(sum(dims), 200, batch_first=True)
        self.dropout, self.scores = nn.Dropout1d(0.5), nn.Linear(400, tags)
        self.transitions = nn.Parameter(torch.zeros(tags, tags))

    def drop(self, x: Tensor) -> Tensor:
        """Drop values of (B, T, E), the same ones in all words of a sentence."""
        return self.dropout(x.transpose(1, 2)).transpose(1, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, T, F) features of words to (B, T, K) log-probabilities."""
        parts = [table(features[..., i]) for i, table in enumerate(self.embeddings)]
        x = self.drop(torch.cat(parts, dim=-1))
        places = torch.arange(features.shape[1])
        lengths = (features[..., 0] != 0).sum(dim=1, keepdim=True)
        mirror = torch.where(places < lengths, lengths - 1 - places, places).unsqueeze(-1)
        reverse = self.backwards(x.take_along_dim(mirror, dim=1))[0]
        both = torch.cat([self.forwards(x)[0], reverse.take_along_dim(mirror, dim=1)], dim=-1)
        return given_valid_tags(self.scores(self.drop(both)), places < lengths, self.transitions)


def given_valid_tags(x: Tensor, is_word: Tensor, transitions: Tensor) -> Tensor:
    """Sum over the sequences of tags, as `model/ner/net.py` does."""
    tags = torch.arange(x.shape[-1])
    before = tags.unsqueeze(1)
    allowed = (tags == 0) | (tags % 2 == 1) | (before == tags) | (before == tags - 1)
    step = torch.where(allowed, transitions * (tags > 0), -1e4)
    outside = torch.where(tags == 0, 0.0, -1e4)
    x = torch.where(is_word.unsqueeze(-1), x.log_softmax(-1), outside)
    words = x.unbind(1)
    past, future = [step[0].expand_as(words[0])], [torch.zeros_like(words[0])]
    for word in words[:-1]:
        past.append(torch.logsumexp((past[-1] + word).unsqueeze(2) + step, dim=1))
    for word in words[:0:-1]:
        future.append(torch.logsumexp((future[-1] + word).unsqueeze(1) + step, dim=2))
    return x + torch.stack(past, dim=1) + torch.stack(future[::-1], dim=1)


def in_batches(lengths: Tensor, order: Tensor) -> list[Tensor]:
    """Cut an order into batches of sentences of about the same length, and shuffle these."""
    parts = order.split(64 * BATCH_SIZE)
    order = torch.cat([part[torch.argsort(lengths[part])] for part in parts])
    batches = order.split(BATCH_SIZE)
    return [batches[i] for i in torch.randperm(len(batches)).tolist()]


def main(path: str, epochs: int) -> None:
    """Train and evaluate for some epochs on the arrays of an .npz file."""
    with np.load(path) as arrays:
        data = {name: torch.from_numpy(arrays[name]) for name in arrays}
    words, tags, lengths = data["train_inputs"], data["train_labels"], data["train_lengths"]
    net = Net(data["sizes"].tolist(), int(tags.max()) + 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3, fused=True)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    first_step, rates, evaluations = time.time(), [], []
    for _ in range(epochs):
        began = time.perf_counter()
        net.train()
        for index in in_batches(lengths, torch.randperm(len(words))):
            length = int(lengths[index].max())
            outputs = net(words[index, :length])
            loss = F.cross_entropy(
                outputs.flatten(0, 1), tags[index, :length].flatten(), ignore_index=-1
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            average.update_parameters(net)
        rates.append(len(words) / (time.perf_counter() - began))
        began = time.perf_counter()
        average.eval()
        right = torch.zeros(())
        with torch.no_grad():
            for index in torch.argsort(data["val_lengths"]).split(BATCH_SIZE):
                length = int(data["val_lengths"][index].max())
                inputs = data["val_inputs"][index, :length]
                found = average(inputs).argmax(2)
                right += (found == data["val_labels"][index, :length]).sum()
        float(right)
        evaluations.append(time.perf_counter() - began)
    print(json.dumps({"first_step": first_step, "rates": rates, "evaluations": evaluations}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
