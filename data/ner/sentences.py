from collections.abc import Iterator
def make_sentences(count: int, seed: int) -> Iterator[tuple[list[str], list[str]]]:
    yield from ()
