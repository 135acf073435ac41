from collections.abc import Mapping

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from utils import Params


class Net(nn.Module):
    """BERT (Devlin et al. 2019) from the transformers package, here tiny and untrained."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=params.vocab_size,
            hidden_size=params.width,
            intermediate_size=2 * params.width,
            num_hidden_layers=params.depth,
            num_attention_heads=2,
            max_position_embeddings=params.length,
            hidden_dropout_prob=params.dropout,
            attention_probs_dropout_prob=params.dropout,
        )
        self.bert = BertForSequenceClassification(config)

    def forward(self, tokens: Mapping[str, Tensor]) -> Tensor:
        return self.bert(**tokens).logits  # (B, T) to (B, 2)


def initialize(model: Net, params: Params) -> None:
    if params.pretrained is not None:  # a folder that save_pretrained wrote
        pretrained = BertForSequenceClassification.from_pretrained(params.pretrained)
        model.bert.load_state_dict(pretrained.state_dict())


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels)


metrics = {"accuracy": lambda outputs, labels: float(np.mean(outputs.argmax(1) == labels))}


def class_names(params: Params) -> list[str]:
    return ["not liked", "liked"]
