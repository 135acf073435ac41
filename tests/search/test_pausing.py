"""Searches that pause trials: what they promote and thaw depends on neither speed nor kills."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.search import halving, thawing
from core.search.halving import Curve, Step
from core.search.points import planned_points
from core.search.settings import Settings, read_settings
from tests.helpers.runs import rows
from tests.helpers.searching import ASHA, kill_and_go_on, outcomes, search, share, write_search

THAW = "method: freeze_thaw\ntrials: {n}\nthaw: {{budget: {budget}, epochs: 3, parallel: 2}}\n"
THAW += "space: {{learning_rate: {{low: 1e-9, high: 1e-3, log: true}}}}"


def settings_of(folder: Path, text: str) -> Settings:
    (folder / "search.yaml").write_text(text)
    base = {"task": "tests.projects.pictures", "num_epochs": 18}
    return read_settings(folder / "search.yaml", base)


def play(
    decide: Callable[[list[Curve], int], Step | None], points: list[dict[str, float]], jobs: int
) -> list[tuple[int, int]]:
    """Play a search whose trials take random times; returns all decisions, those of a trial once.

    A trial's value rises to a height that its point sets.
    """
    rng = random.Random(jobs)
    curves, running, made = list[Curve](), dict[int, float](), list[tuple[int, int]]()
    while True:
        while len(running) < jobs and (step := decide(curves, len(points))) is not None:
            index = len(curves) if step.index is None else step.index
            if step.index is None:
                curves.append(Curve([], 0, False, step.point or points[index]))
            decisions = [*curves[index].decisions, (len(made), step.goal)]
            curves[index] = replace(curves[index], goal=step.goal, decisions=decisions)
            running[index] = rng.random() * (step.goal - len(curves[index].values))
            made.append((index, step.goal))
        if not running:
            return made
        index = min(running, key=lambda i: running[i])
        after = running.pop(index)
        running = {i: left - after for i, left in running.items()}
        curve = curves[index]
        height = -abs(curve.point["learning_rate"] - 1e-4) * 1e3
        values = [height - 1 / epoch for epoch in range(1, curve.goal + 1)]
        curves[index] = replace(curve, values=values, over=curve.goal == 18)


def test_halving_promotes_the_same_trials_whatever_their_speed(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, ASHA.format(n=27))
    points = planned_points(settings) or []

    def decide(curves: list[Curve], total: int) -> Step | None:
        return halving.next_step(settings, curves, total)

    sequences = [play(decide, points, jobs) for jobs in (1, 2, 5, 40)]
    assert all(sorted(made) == sorted(sequences[0]) for made in sequences)
    assert any(made != sequences[0] for made in sequences)  # in another order
    good = sorted(range(27), key=lambda i: abs(points[i]["learning_rate"] - 1e-4))
    goals = {index: max(goal for i, goal in sequences[0] if i == index) for index in range(27)}
    assert [index for index in good if goals[index] == 18] == good[:3]
    assert {index for index in good if goals[index] >= 6} == {*good[:9]}


def test_thawing_decides_the_same_with_fewer_or_slower_jobs(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, THAW.format(n=12, budget=60))
    points = planned_points(settings) or []

    def decide(curves: list[Curve], total: int) -> Step | None:
        pool = [p for p in points if p not in [curve.point for curve in curves]]
        return thawing.next_step(settings, curves, pool, parallel=3)

    sequences = [play(decide, points, jobs) for jobs in (1, 2, 3, 9)]
    assert all(made == sequences[0] for made in sequences)
    assert any(goal == 18 for _, goal in sequences[0])  # somebody was trained to the end


def test_a_promoted_trial_ends_as_one_that_never_paused(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "method: asha\npoints: grid\nrungs: {after: 1, keep: 0.33}\n"
    text += "space: {learning_rate: [1e-9, 1e-1, 1e-8]}"
    folder = write_search(tmp_path / "s", text, num_epochs=4, monitor="loss")
    assert search(folder, data, "--jobs", "2") == 0
    assert "1 of 3 trials complete, 2 paused, 1 promoted" in capsys.readouterr().out
    lengths = [len(rows(folder / f"lr={rate}")) for rate in ("1e-9", "0.1", "1e-8")]
    assert lengths == [1, 4, 1]
    one = "space: {learning_rate: [1e-1]}"
    whole = write_search(tmp_path / "w", one, num_epochs=4, monitor="loss")
    assert search(whole, data) == 0
    assert outcomes(whole).items() <= outcomes(folder).items()
    (folder / "search.yaml").write_text(text.replace("1e-8]", "1e-8, 1e-2, 1e-3, 1e-4]"))
    assert search(folder, data) == 0  # of six trials two go on, one of them to the end
    assert "1 of 6 trials complete, 5 paused, 2 promoted" in capsys.readouterr().out


def test_a_search_with_promotions_that_is_killed_ends_as_one_that_was_not(
    tmp_path: Path, data: Path
) -> None:
    kill_and_go_on(tmp_path, data, ASHA.format(n=4), kills=2, epochs=24)


@pytest.mark.slow
def test_a_search_that_thaws_and_is_killed_ends_as_one_that_was_not(
    tmp_path: Path, data: Path
) -> None:
    kill_and_go_on(tmp_path, data, THAW.format(n=4, budget=24), kills=2, epochs=16)


@pytest.mark.slow
def test_searches_with_promotions_that_are_killed_30_times_end_as_those_that_were_not(
    tmp_path: Path, data: Path
) -> None:
    kill_and_go_on(tmp_path / "asha", data, ASHA.format(n=24), kills=15, epochs=54)
    kill_and_go_on(tmp_path / "thaw", data, THAW.format(n=24, budget=240), kills=15, epochs=36)


@pytest.mark.slow
def test_four_searches_share_300_trials_with_promotions(tmp_path: Path, data: Path) -> None:
    share(tmp_path / "s", data, 300, text=ASHA, searches=4, epochs=6)
