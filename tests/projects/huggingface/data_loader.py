from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from utils import Params

SUBJECTS, JUDGEMENTS = ["film", "book", "song"], ["good", "fine", "great", "bad", "dull", "poor"]
TEXTS = [f"the {s} was {'not ' * no}{j}" for s, j, no in product(SUBJECTS, JUDGEMENTS, (0, 1))]
EXAMPLES: Any = [(t, JUDGEMENTS.index(t.split()[-1]) < 3 and "not" not in t) for t in TEXTS]
PARTS = {"train": slice(0, None, 2), "val": slice(1, None, 4), "test": slice(3, None, 4)}


def make_tokenizer() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", *sorted({*" ".join(TEXTS).split()})]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")


def fetch_dataloader(splits: Sequence[str], data_dir: str, params: Params) -> dict[str, Any]:
    tokenizer = make_tokenizer()
    params.vocab_size = len(tokenizer)  # kept in the checkpoint

    def collate(batch: Any) -> tuple[Any, Tensor]:
        texts, liked = zip(*batch, strict=True)
        return tokenizer([*texts], padding=True, return_tensors="pt"), torch.tensor(liked).long()

    settings = {"batch_size": params.batch_size, "collate_fn": collate}
    return {s: DataLoader(EXAMPLES[PARTS[s]], shuffle=s == "train", **settings) for s in splits}


def read_inputs(sources: Sequence[str], params: Params) -> Iterator[tuple[str, Any]]:
    encode = make_tokenizer()
    yield from ((s, {k: torch.tensor(v) for k, v in encode(s).items()}) for s in sources)
