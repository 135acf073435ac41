"""The space of a search, the points of each method, and what the report says of them."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from core.base.errors import UsageError
from core.base.params import laid_over
from core.search import report as search_report
from core.search.locks import Locks
from core.search.points import Tried, next_point, planned_points, trial_name
from core.search.settings import Settings, read_settings
from core.search.study import Study
from tests.helpers.searching import search, write_search

SPACE = """space:
  learning_rate: {low: 1e-5, high: 1e-1, log: true}
  batch_size: {low: 4, high: 64, step: 4}
  optimizer: [SGD, Adam]
"""


def settings_of(tmp_path: Path, text: str) -> Settings:
    (tmp_path / "search.yaml").write_text(text)
    return read_settings(tmp_path / "search.yaml", {"task": "tests.projects.pictures"})


def points_of(settings: Settings, count: int) -> list[dict[str, Any]]:
    """Play a search whose metric is best at a batch size of 30 and a learning rate of 1e-3."""
    if (planned := planned_points(settings)) is not None:
        return planned
    history: list[Tried] = []
    for _ in range(count):
        point, notes = next_point(settings, history, [True])
        value = -abs(point["batch_size"] - 30) - 1000 * abs(point["learning_rate"] - 1e-3)
        history.append(Tried(point, [value], notes))
    return [tried.point for tried in history]


@pytest.mark.parametrize("method", ["random", "qmc", "tpe", "gp", "cmaes"])
def test_a_method_tries_the_same_points_every_time_and_others_with_another_seed(
    tmp_path: Path, method: str
) -> None:
    text = f"method: {method}\ntrials: 12\n{SPACE}"
    first = points_of(settings_of(tmp_path, text), 12)
    assert first == points_of(settings_of(tmp_path, text), 12)
    assert first != points_of(settings_of(tmp_path, text + "seed: 1"), 12)
    assert len({json.dumps(point) for point in first}) == 12
    for point in first:
        assert 1e-5 <= point["learning_rate"] <= 1e-1
        assert point["batch_size"] in range(4, 65, 4)
        assert point["optimizer"] in ("SGD", "Adam")


@pytest.mark.parametrize("method", ["random", "qmc"])
def test_more_trials_begin_with_the_points_of_fewer(tmp_path: Path, method: str) -> None:
    few, more = (
        points_of(settings_of(tmp_path, f"method: {method}\ntrials: {n}\n{SPACE}"), n)
        for n in (5, 12)
    )
    assert more[:5] == few


@pytest.mark.parametrize("method", ["tpe", "cmaes"])
def test_a_method_that_learns_comes_nearer_to_the_best(tmp_path: Path, method: str) -> None:
    text = f"method: {method}\ntrials: 60\n{SPACE}"
    points = points_of(settings_of(tmp_path, text), 60)
    away = [abs(point["batch_size"] - 30) for point in points]
    assert sum(away[-20:]) < 0.6 * sum(away[:20])


CONDITIONS = """space:
  optimizer: [SGD, Adam, AdamW]
  optimizer_args.momentum: {low: 0.5, high: 0.9, step: 0.4, when: {optimizer: SGD}}
  optimizer_args.weight_decay: {choices: [0.1, 0.2, 0.4], when: {optimizer: [SGD, AdamW]}}
"""


@pytest.mark.parametrize("method", ["grid", "random", "tpe"])
def test_a_key_with_a_condition_stands_only_in_points_that_meet_it(
    tmp_path: Path, method: str
) -> None:
    text = CONDITIONS if method == "grid" else f"method: {method}\ntrials: 10\n{CONDITIONS}"
    settings = settings_of(tmp_path, text)
    history: list[Tried] = []
    for point in planned_points(settings) or [{}] * 10:
        point, notes = (point, {}) if point else next_point(settings, history, [True])
        history.append(Tried(point, [float(len(point))], notes))
        assert settings.holds(point)
        assert ("optimizer_args.momentum" in point) == (point["optimizer"] == "SGD")
        assert ("optimizer_args.weight_decay" in point) == (point["optimizer"] != "Adam")
    assert len({json.dumps(tried.point) for tried in history}) == 10  # 2 * 3 + 3 + 1 there are


def test_auto_takes_a_gaussian_process_for_few_trials(tmp_path: Path) -> None:
    for trials, points in ((250, "gp"), (251, "tpe")):
        text = f"method: auto\ntrials: {trials}\n{SPACE}"
        assert settings_of(tmp_path, text).points == points


def test_a_grid_holds_every_combination_and_steps_without_rounding_errors(tmp_path: Path) -> None:
    text = "space: {dropout_rate: {low: 0.1, high: 0.5, step: 0.1}, batch_size: {low: 1, high: 2}}"
    points = planned_points(settings_of(tmp_path, text))
    assert points is not None
    assert points[:3] == [
        {"dropout_rate": 0.1, "batch_size": 1},
        {"dropout_rate": 0.1, "batch_size": 2},
        {"dropout_rate": 0.2, "batch_size": 1},
    ]
    assert [point["dropout_rate"] for point in points[::2]] == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_small_space_gives_each_of_its_points_once(tmp_path: Path) -> None:
    text = "method: random\ntrials: 9\nspace: {batch_size: [1, 2, 4]}"
    points = planned_points(settings_of(tmp_path, text))
    assert points is not None
    assert sorted(point["batch_size"] for point in points) == [1, 2, 4]


@pytest.mark.parametrize(
    ("before", "space"),
    [
        ({"learning_rate": 1e-3}, "learning_rate: {low: 1e-4, high: 1.0}, batch_size: [1, 2]"),
        ({"dropout_rate": 0.123}, "dropout_rate: {low: 0.0, high: 1.0, step: 0.1}"),
        ({"dropout_rate": 1.5}, "dropout_rate: {low: 1, high: 4}"),
        ({"dropout_rate": 1.0}, "dropout_rate: [0, 1]"),
    ],
)
def test_a_space_that_changed_leaves_out_the_trials_that_it_does_not_hold(
    tmp_path: Path, before: dict[str, Any], space: str
) -> None:
    settings = settings_of(tmp_path, f"method: tpe\ntrials: 3\nspace: {{{space}}}")
    point, _ = next_point(settings, [Tried(before, [1.0], {})], [True])
    assert settings.holds(point)
    assert not settings.holds(before)


def test_steps_that_begin_anywhere_and_end_below_the_range_do_not_leave_it(tmp_path: Path) -> None:
    space = "space: {dropout_rate: {low: 0.123456789, high: 1.0, step: 0.1}}"
    grid = planned_points(settings_of(tmp_path, space))
    settings = settings_of(tmp_path, f"method: tpe\ntrials: 9\n{space}")
    history: list[Tried] = []
    for _ in range(9):
        point, notes = next_point(settings, history, [True])
        history.append(Tried(point, [point["dropout_rate"]], notes))
    assert grid is not None
    assert sorted(tried.point["dropout_rate"] for tried in history) == [
        point["dropout_rate"] for point in grid
    ]


def test_names_of_trials_keep_points_apart_and_fit_a_file_system() -> None:
    assert trial_name({"learning_rate": 1e-3, "dropout_rate": 0.3}) == "lr=1e-3,dropout=0.3"
    assert trial_name({"learning_rate": 0.00123456, "net": "fc"}) == "lr=0.00123456,net=fc"
    assert trial_name({"a.rate": 1, "b.rate": 2}) == "a.rate=1,b.rate=2"
    odd = [{"name": "a/b"}, {"name": "a_b"}, {"name": "x" * 400}, {"name": "x" * 401}]
    names = [trial_name(point) for point in odd]
    assert len(set(names)) == 4
    assert all(len(name) < 140 and "/" not in name for name in names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space: {lerning_rate: [1]}", "did you mean 'learning_rate'"),
        ("space: {learning_rate: [0]}", "above 0"),
        ("space: {learning_rate: 0.1}", "want a list or {low, high"),
        ("space: {learning_rate: []}", "no values"),
        ("space: {learning_rate: [1, 1.0]}", "a value twice"),
        ("spase: {learning_rate: [1]}", "did you mean 'space'"),
        ("method: randon\nspace: {learning_rate: [1]}", "did you mean 'random'"),
        ("method: random\nspace: {learning_rate: [1]}", "'trials' is missing"),
        ("trials: 3\nspace: {learning_rate: [1]}", "does not go with a grid"),
        ("space: {learning_rate: {low: 0.1, high: 1}}", "needs a 'step'"),
        ("space: {learning_rate: {low: 1, high: 0.1, step: 0.1}}", "want low < high"),
        ("space: {learning_rate: {low: 0.1, high: 1, stp: 0.1}}", "did you mean 'step'"),
        ("space: {learning_rate: {low: 0, high: 1, step: 0.1}}", "above 0"),
        ("space: {batch_size: {low: 1, high: 8, step: 0.5}}", "'step' is 0.5"),
        ("method: tpe\ntrials: 0\nspace: {learning_rate: [1]}", "'trials' is 0"),
        ("method: cmaes\ntrials: 3\nspace: {learning_rate: [1]}", "choices it cannot use"),
        ("space: {seed: {choices: [1], when: {optimiser: SGD}}}", "no key of the space before"),
        ("space: {optimizer: [SGD], seed: {choices: [1], when: {optimizer: Adam}}}", "is none of"),
        ("rungs: {after: 2}\nspace: {seed: [1]}", "'rungs' does not go with method grid"),
        ("method: asha\nspace: {seed: [1]}", "'trials' is missing"),
        ("method: asha\ntrials: 2\nspace: {num_epochs: [1]}", "needs one 'num_epochs'"),
        ("method: freeze_thaw\ntrials: 2\nthaw: {budged: 2}\nspace: {seed: [1]}", "'budget'"),
        ("repeats: 2\nspace: {seed: [1, 2]}", "'repeats' sets the seeds"),
        ("prune: {after: 1, keep: 0.7}\nspace: {learning_rate: [1]}", "'keep' is 0.7"),
        ("space: {wholly_unknown: [1]}", "wholly_unknown"),
        ("space: {1: [2]}", "want keys with their values"),
        ("space: {learning_rate: {low: 0.1, high: 1, 3: 4}}", "unknown key 3"),
        ("space: {seed: {low: 0, high: 1000000000}}", "a grid of 1000000001 points"),
        ("seed: 4294967296\nspace: {learning_rate: [1]}", "'seed' is 4294967296"),
    ],
)
def test_a_wrong_space_stops_before_anything_is_made(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    folder = write_search(tmp_path / "s", text, task="bench.noop")
    assert search(folder, data) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["params.json", "search.yaml"]


def played(values: list[list[float]], space: str, points: list[dict[str, Any]], path: Path) -> str:
    """Return the report of a search whose points had these values, one for every seed."""
    settings = settings_of(path, f"repeats: {len(values[0])}\n{space}")
    with closing(Locks(path / "lock")) as locks:
        study = Study(InMemoryStorage(), "search", locks, settings, {"accuracy": True})
        for number, (seeds, point) in enumerate(zip(values, points, strict=True)):
            claim = study._write(number, point, {})
            study.end(claim, TrialState.COMPLETE, seeds[:1])
            for value in seeds[1:]:
                study.note_seed(claim, [value])
        return search_report.report(study, path)


def test_the_report_names_the_edge_the_important_key_and_what_seeds_could_have_done(
    tmp_path: Path,
) -> None:
    rates = [1e-4, 1e-3, 1e-2]
    points = [{"learning_rate": r, "batch_size": b} for r in rates for b in (8, 16, 32, 64)]
    offsets = [0.0, 0.001, 0.0005, 0.0015]
    values = [
        [0.5 + 0.1 * (i // 4) + offsets[i % 4] + noise for noise in (-0.01, 0.0, 0.01)]
        for i in range(12)
    ]
    space = "space: {learning_rate: [1e-4, 1e-3, 1e-2], batch_size: [8, 16, 32, 64]}"
    text = played(values, space, points, tmp_path)
    assert "extend learning_rate beyond 0.01" in text
    shares = text.partition("2023): ")[2]
    assert shares.startswith("learning_rate")
    assert "standard deviation 0.0100 over seeds" in text
    assert "3 of the other 11 points cannot be told from the best" in text
    assert "The best point and the runner-up cannot be told apart: 0.0005 between" in text
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_goes_on_when_the_space_has_grown_by_a_key(tmp_path: Path) -> None:
    points = [{"learning_rate": 10.0**-n} for n in range(1, 12)]
    space = "space: {learning_rate: [1e-4, 1e-3], optimizer: [SGD, Adam]}"
    text = played([[0.5]] * len(points), space, points, tmp_path)
    assert "needs 10 complete trials" in text


def test_the_end_of_what_a_key_may_be_is_not_called_an_edge(tmp_path: Path) -> None:
    points = [{"batch_size": size} for size in (1, 2, 4)]
    text = played([[0.9], [0.7], [0.5]], "space: {batch_size: [1, 2, 4]}", points, tmp_path)
    assert "edge" not in text


def test_a_best_point_inside_the_space_is_not_called_an_edge(tmp_path: Path) -> None:
    points = [{"learning_rate": rate} for rate in (1e-4, 1e-3, 1e-2)]
    space = "space: {learning_rate: [1e-4, 1e-3, 1e-2]}"
    text = played([[0.5], [0.9], [0.7]], space, points, tmp_path)
    assert "edge" not in text
    assert "One seed a point" in text


def test_a_key_of_a_mapping_is_searched(tmp_path: Path) -> None:
    text = "space: {optimizer_args.weight_decay: [0, 0.5]}\n"
    (tmp_path / "search.yaml").write_text(text)
    base = {"task": "bench.noop", "optimizer_args": {"weight_decay": 0.1}}
    settings = read_settings(tmp_path / "search.yaml", base)
    (point,) = [p for p in planned_points(settings) or [] if p["optimizer_args.weight_decay"]]
    assert laid_over(base, point)["optimizer_args"] == {"weight_decay": 0.5}
    with pytest.raises(UsageError, match="no mapping"):
        (tmp_path / "search.yaml").write_text("space: {seed.x: [1, 2]}\n")
        read_settings(tmp_path / "search.yaml", base)
