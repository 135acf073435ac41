from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from tests.projects.huggingface.texts import WORDS, examples
from utils import DataError, Params


def make_tokenizer(params: Params) -> PreTrainedTokenizerFast:
    ids = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"tokenizer_object": tokenizer, "pad_token": "[PAD]"}
    return PreTrainedTokenizerFast(model_max_length=params.length, **special)


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    tokenizer = make_tokenizer(params)
    params.vocab_size = len(tokenizer)  # kept in the checkpoint

    def collate(batch: Any) -> tuple[Any, Tensor]:
        texts, liked = zip(*batch, strict=True)
        tokens = tokenizer([*texts], padding=True, truncation=True, return_tensors="pt")
        return tokens, torch.tensor(liked).long()

    settings = {"batch_size": params.batch_size, "collate_fn": collate}
    return {s: DataLoader(examples(s), shuffle=s == "train", **settings) for s in splits}


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Any]]:
    encode = make_tokenizer(params)
    for source in sources:
        if not (found := encode(source, truncation=True))["input_ids"]:
            raise DataError(f"{source!r}: want a sentence")
        yield source, {name: torch.tensor(ids) for name, ids in found.items()}
