"""Named entities: one tag for every word of a sentence, by an LSTM over embeddings.

The net of the CS230 project template's NLP half, and what has become usual since: both directions
(Huang et al. 2015), spelling (Lample et al. 2016; here affixes and word shapes), and tags that go
with one another (a linear chain, whose transitions may be learned).
Shapes: B sentences, T tokens, F features of a word, E embedding, H hidden, K tags, N tokens of a
whole split.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.ner.data_loader import FIRST, IGNORED, PADDING, tag_names
from utils import Params


class Net(nn.Module):
    """Score the tags of every token; padding changes nothing."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        sizes = [len(values) + FIRST for values in params.vocabulary]  # of F features
        dims = [params.embedding_dim] + [params.feature_dim] * (len(sizes) - 1)
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, dim, padding_idx=PADDING)
            for size, dim in zip(sizes, dims, strict=True)
        )
        width, hidden = sum(dims), params.lstm_hidden_dim
        self.forwards, self.backwards = nn.ModuleList(), nn.ModuleList()
        for _ in range(params.num_layers):
            self.forwards.append(nn.LSTM(width, hidden, batch_first=True))
            if params.bidirectional:
                self.backwards.append(nn.LSTM(width, hidden, batch_first=True))
            width = 2 * hidden if params.bidirectional else hidden
        self.dropout = nn.Dropout1d(params.dropout_rate)
        self.scores = nn.Linear(width, len(class_names(params)))
        self.outside_bias = params.dict.get("outside_bias", 0.0)
        self.transitions: Tensor | float = 0.0
        if params.dict.get("learn_transitions", False):
            self.transitions = nn.Parameter(torch.zeros(2 * [self.scores.out_features]))  # (K, K)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, T, F) features of words to (B, T, K) logits.

        In evaluation `outside_bias` is taken from those of O: more entities are found, and more of
        them wrongly. A score may want another balance than the loss (Elkan 2001). Then they become
        the log-probabilities of `given_valid_tags`; in training, too, if transitions are learned.
        """
        parts = [table(features[..., i]) for i, table in enumerate(self.embeddings)]
        x = torch.cat(parts, dim=-1)  # (B, T, E)
        # The LSTM that reads backwards gets every sentence reversed, the padding still behind it:
        # so neither meets padding before it is done. Twice as fast here as packed sequences.
        places = torch.arange(features.shape[1], device=features.device)  # (T,)
        lengths = (features[..., 0] != PADDING).sum(dim=1, keepdim=True)  # (B, 1)
        mirror = torch.where(places < lengths, lengths - 1 - places, places).unsqueeze(-1)
        for i, forwards in enumerate(self.forwards):
            x = self.drop(x)
            outputs = forwards(x)[0]  # (B, T, H)
            if self.backwards:
                reverse = self.backwards[i](x.gather(1, mirror.expand_as(x)))[0]  # (B, T, H)
                outputs = torch.cat([outputs, reverse.gather(1, mirror.expand_as(reverse))], dim=-1)
            x = outputs  # (B, T, H) or (B, T, 2H)
        x = self.scores(self.drop(x))  # (B, T, K)
        if self.training and not isinstance(self.transitions, Tensor):
            return x
        if not self.training:
            x = x - self.outside_bias * F.one_hot(torch.tensor(0, device=x.device), x.shape[-1])
        return given_valid_tags(x, places < lengths, self.transitions)

    def drop(self, x: Tensor) -> Tensor:
        """Drop values of (B, T, E), the same ones in all words of a sentence.

        Then the LSTM cannot make up for them from a neighbouring word (Gal and Ghahramani 2016).
        Drawing for every word took a fifth of a step's time on a CPU, and was no better.
        """
        return self.dropout(x.transpose(1, 2)).transpose(1, 2)


def given_valid_tags(logits: Tensor, is_word: Tensor, transitions: Tensor | float = 0.0) -> Tensor:
    """Return log-probabilities (B, T, K) of the tags, given that each I goes on with an entity.

    Taken alone, the logits of a word may prefer an I behind an O. Here all sequences of tags count
    in which an I follows a B or I of its type: a linear chain (Lafferty et al. 2001), summed by the
    forward-backward algorithm (Rabiner 1989, section III). Learned transitions are trained by these
    log-probabilities of single tags (Kakade et al. 2002), not by those of whole sequences.

    Args:
        logits: (B, T, K), numbered as by `tag_names`.
        is_word: (B, T) bool, False for the padding behind a sentence.
        transitions: (K, K), what counts for a tag (column) behind another (row). Those to O are
            taken as 0: logits can say the same, and then padding, which is O, changes nothing.
    """
    tags = torch.arange(logits.shape[-1], device=logits.device)  # (K,)
    before = tags.unsqueeze(1)
    allowed = (tags == 0) | (tags % 2 == 1) | (before == tags) | (before == tags - 1)  # (K, K)
    step = torch.where(allowed, transitions * (tags > 0), -1e4)  # from row to column
    outside = torch.where(tags == 0, 0.0, -1e4)  # what padding is
    x = torch.where(is_word.unsqueeze(-1), logits.log_softmax(-1), outside)  # (B, T, K)
    words = x.unbind(1)  # T times (B, K)
    past = [step[0].expand_as(words[0])]  # a sentence begins as behind an O
    for word in words[:-1]:
        past.append(torch.logsumexp((past[-1] + word).unsqueeze(2) + step, dim=1))
    future = [torch.zeros_like(words[0])]
    for word in words[:0:-1]:
        future.append(torch.logsumexp((future[-1] + word).unsqueeze(1) + step, dim=2))
    return (x + torch.stack(past, dim=1) + torch.stack(future[::-1], dim=1)).log_softmax(-1)


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy () over the tokens, of logits (B, T, K) and labels (B, T)."""
    return F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def class_names(params: Params) -> list[str]:
    """Return the K tags."""
    return tag_names(params.entity_types)


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of right tags among the tokens not ignored; logits (N, K), labels (N,)."""
    counted = labels != IGNORED
    return float(np.mean(outputs.argmax(axis=1)[counted] == labels[counted]))


def find_entities(tags: np.ndarray) -> np.ndarray:
    """Mark the entities among tags (N,) by the rules of conlleval (Tjong Kim Sang et al. 2003).

    An entity begins at a B, or at an I behind anything but a B or I of its type. Tag 0 is O, odd
    ones are B, even ones I, as `tag_names` numbers them.

    Returns:
        (N, 2): type (from 1 on) and end of the entity that begins at a token, 0 where none does.
    """
    types = (tags + 1) // 2  # 0 where the tag is O
    goes_on = np.zeros(len(tags), bool)
    goes_on[1:] = (tags[1:] > 0) & (tags[1:] % 2 == 0) & (types[1:] == types[:-1])
    stops = np.append(np.flatnonzero(~goes_on), len(tags))
    begins = np.flatnonzero(~goes_on & (tags > 0))
    found = np.zeros((len(tags), 2), np.int64)
    found[begins, 0] = types[begins]
    found[begins, 1] = stops[np.searchsorted(stops, begins, side="right")]
    return found


def entity_scores(outputs: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Return precision, recall and F1 of whole entities, for logits (N, K) and labels (N,).

    An entity counts as found if its type, first and last token are right. A score is 0 where its
    quotient would be 0/0.
    """
    ignored = labels == IGNORED
    predicted = find_entities(np.where(ignored, 0, outputs.argmax(axis=1)))
    present = find_entities(np.where(ignored, 0, labels))
    right = int(((predicted == present).all(axis=1) & (present[:, 0] > 0)).sum())
    num_predicted, num_present = int((predicted[:, 0] > 0).sum()), int((present[:, 0] > 0).sum())
    return (
        right / max(num_predicted, 1),
        right / max(num_present, 1),
        2 * right / max(num_predicted + num_present, 1),
    )


metrics = {
    "accuracy": accuracy,
    "precision": lambda outputs, labels: entity_scores(outputs, labels)[0],
    "recall": lambda outputs, labels: entity_scores(outputs, labels)[1],
    "f1": lambda outputs, labels: entity_scores(outputs, labels)[2],
}
