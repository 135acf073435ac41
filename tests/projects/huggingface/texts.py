"""Made-up judgements, such as "the film was not good"."""

from itertools import product
from typing import Any

SUBJECTS = ["film", "book", "song", "play", "show", "cast", "plot", "music"]
JUDGEMENTS = ["good", "fine", "great", "bad", "dull", "poor"]  # the first three are praise
TEXTS = [f"the {s} was {'not ' * no}{j}" for s, j, no in product(SUBJECTS, JUDGEMENTS, (0, 1))]
PARTS = {"train": (0, 1, 2), "val": (3,), "test": (4,)}  # of every five texts
WORDS = sorted({*" ".join(TEXTS).split()})


def examples(split: str) -> Any:
    """Return a list of (text, whether it is liked); no text is in two splits."""
    chosen = [text for i, text in enumerate(TEXTS) if i % 5 in PARTS[split]]
    return [(text, (text.split()[-1] in JUDGEMENTS[:3]) != ("not" in text)) for text in chosen]
