import math

import pytest

from core.base.monitor import is_better


@pytest.mark.parametrize("more", [False, True])
def test_nan_is_never_better(more: bool) -> None:
    nan = math.nan
    assert not is_better(nan, nan, more)
    assert not is_better(nan, 1.0, more)
    assert is_better(1.0, nan, more)
    assert is_better(2.0, 1.0, more) == more
    assert not is_better(1.0, 1.0, more)
