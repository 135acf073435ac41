"""The base params decide of what type the numbers of a search's space are, not their spelling."""

from pathlib import Path
from typing import Any

import pytest

from core.base.errors import UsageError
from core.search.points import next_point, planned_points
from core.search.settings import Settings, read_settings
from core.search.space import grid_values

# Each key is a word in the code of some task in model/.
BASE = {
    "dropout_rate": 0.8,
    "num_channels": 8,
    "bidirectional": True,
    "name": "no",
    "shape": [0.5, 2],
}
BASE |= {"shape": [0.5, 2], "optimizer_args": {"momentum": 0.9, "nesterov": False}}


def settings_of(folder: Path, text: str, base: dict[str, Any] = BASE) -> Settings:
    (folder / "search.yaml").write_text(text)
    return read_settings(folder / "search.yaml", base)


def values_of(folder: Path, values: str, base: dict[str, Any] = BASE) -> str:
    """Return the values of a grid of one key, as Python spells them."""
    settings = settings_of(folder, f"space: {{{values}}}", base)
    return repr(grid_values(*settings.space.values()))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ("dropout_rate: [0, 1]", "[0.0, 1.0]"),
        ("dropout_rate: [0, null, auto]", "[0.0, None, 'auto']"),
        ("dropout_rate: {low: 0, high: 1, step: 0.5}", "[0.0, 0.5, 1.0]"),
        ("dropout_rate: {low: 0, high: 2, step: 1}", "[0.0, 1.0, 2.0]"),
        ("num_channels: [1.0, 1e3]", "[1, 1000]"),
        ("num_channels: {low: 1.0, high: 3e0}", "[1, 2, 3]"),
        ("batch_size: {low: 1e1, high: 12}", "[10, 11, 12]"),
        ("learning_rate: [1, 2]", "[1.0, 2.0]"),
        ("name: ['no', 'yes', en]", "['no', 'yes', 'en']"),
        ("shape: [[0, 1.0], [1, 2]]", "[[0.0, 1], [1.0, 2]]"),
        ("optimizer_args: [{momentum: 0}]", "[{'momentum': 0.0}]"),
    ],
)
def test_the_base_value_decides_the_type(tmp_path: Path, values: str, found: str) -> None:
    assert values_of(tmp_path, values) == found


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_range_from_0_to_1_beside_a_fraction_is_not_two_points(
    tmp_path: Path, method: str
) -> None:
    text = f"method: {method}\ntrials: 8\nspace: {{dropout_rate: {{low: 0, high: 1}}}}"
    settings = settings_of(tmp_path, text)
    points = planned_points(settings) or [next_point(settings, [], [True])[0]]
    for point in points:
        assert type(point["dropout_rate"]) is float
        assert 0 < point["dropout_rate"] < 1


def test_a_grid_from_0_to_1_beside_a_fraction_needs_a_step(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a grid needs a 'step' for 'dropout_rate'"):
        values_of(tmp_path, "dropout_rate: {low: 0, high: 1}")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("num_channels: [1, 1.5]", "1.5, want a whole number like the 8 .*write 8.0 there"),
        ("num_channels: {low: 1, high: 8, step: 0.5}", "'step' is 0.5"),
        ("dropout_rate: ['1e-3', 0.1]", '"1e-3", want a number like the 0.8'),
        ("dropout_rate: [1_000]", '"1_000", want a number'),
        ("dropout_rate: [true, false]", "true, want a number"),
        ("bidirectional: [0, 1]", "0, want true or false like the true"),
        ("bidirectional: ['no', 'yes']", '"no", want true or false'),
        ("bidirectional: [no, yes]", "'bidirectional' is 'no', want true or false"),
        ("name: [1, 2]", '1, want a string like the "no"'),
        ("optimizer_args: [{nesterov: 'true'}]", '"true", want true or false'),
        ("dropout_rate: [1, 1.0]", "a value twice"),
    ],
)
def test_what_may_be_a_slip_is_refused(tmp_path: Path, values: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        values_of(tmp_path, values)
    assert "search.yaml" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


def test_without_a_base_value_the_spelling_decides_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert values_of(tmp_path, "dropout_rate: [0, 0.5]", {}) == "[0.0, 0.5]"
    assert not caplog.text
    assert values_of(tmp_path, "dropout_rate: {low: 0, high: 1}", {}) == "[0, 1]"
    assert "is of whole numbers: the params have no 'dropout_rate'" in caplog.text
