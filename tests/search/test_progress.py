"""The table of a search: short names, the time left, and lines that fit a terminal."""

from contextlib import closing
from pathlib import Path

import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from core.search.locks import Locks
from core.search.progress import WIDTH, Progress, clock, compact, label, row
from core.search.settings import read_settings
from core.search.study import Study


@pytest.mark.parametrize(
    ("value", "short"),
    [
        *[(0.005, "5e-3"), (0.05, ".05"), (1e-4, "1e-4"), (1.0, "1"), (0.0, "0"), (-0.3, "-.3")],
        *[(0.0123, ".0123"), (32, "32"), (True, "true"), ("SGD", "SGD"), (None, "null")],
    ],
)
def test_a_value_is_spelt_in_few_letters(value: object, short: str) -> None:
    assert compact(value) == short
    if type(value) is float:
        assert float(short) == pytest.approx(value, rel=0.01)


def test_a_trial_is_named_by_its_searched_keys() -> None:
    point = {"learning_rate": 0.005, "optimizer_args.weight_decay": 0.1, "dropout_rate": 0.05}
    assert label(17, point) == "#17 lr=5e-3 wd=.1 dropout=.05"
    assert len(label(17, {f"a_long_name_of_a_key_{i}": i for i in range(9)})) == WIDTH


def test_a_line_of_the_table_fits_eighty_columns() -> None:
    longest = row("x" * WIDTH, "precision_of_all", clock(360000), clock(360000), "*")
    assert len(longest) <= 80


def test_the_time_left_counts_the_epochs_of_trials_in_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("core.search.progress.time.monotonic", lambda: now[0])
    progress = Progress("loss", more=False)
    assert progress.left(40) == "?"  # before the first epoch nothing is known
    now[0], progress.parts = 110.0, {0: 5}  # five epochs in 10 s, thirty-five are left
    assert progress.left(40) == "1:10"
    now[0], progress.parts, progress.trained = 120.0, {}, 10
    progress.tell(0, {"learning_rate": 0.1}, "0.5", took=20.0, left=30)
    progress.trained = 20
    progress.tell(1, {"learning_rate": 1.0}, "0.7 @4", took=20.0, left=20)
    progress.tell(2, {"learning_rate": 2.0}, "failed\nno number\nat all", 1.0, left=10)
    header, first, second, third, *why = capsys.readouterr().out.splitlines()
    assert header.split() == ["trial", "loss", "time", "time", "left"]
    assert first.split() == ["#0", "lr=.1", "0.5", "0:20", "1:00", "*"]
    assert second.split()[:5] == ["#1", "lr=1", "0.7", "@4", "0:20"]
    assert "*" not in second
    assert third.split()[2] == "failed"
    assert why == ["    no number", "    at all"]
    progress.close()


@pytest.mark.parametrize(
    ("text", "epochs"),
    [
        ("space: {learning_rate: [0.1, 0.2]}", [10, 5]),
        ("repeats: 3\nrace: false\nspace: {learning_rate: [0.1, 0.2]}", [30, 25]),
        # Half of them get further seeds, as far as is known; at least two do in the end.
        ("repeats: 3\nspace: {learning_rate: [0.1, 0.2, 0.3, 0.4]}", [40, 35]),
        # Four for an epoch, one of them to the end, which is five.
        (
            "method: asha\npoints: grid\nrungs: {after: 1, keep: 0.25}\nrepeats: 3\n"
            "space: {learning_rate: [0.1, 0.2, 0.3, 0.4]}",
            [4 + 3 + 1 + 10, 3 + 3 + 1 + 10],
        ),
    ],
)
def test_the_epochs_left_count_every_seed(tmp_path: Path, text: str, epochs: list[int]) -> None:
    (tmp_path / "search.yaml").write_text(text)
    settings = read_settings(tmp_path / "search.yaml", {"num_epochs": 5})
    with closing(Locks(tmp_path / "lock")) as locks:
        study = Study(InMemoryStorage(), "search", locks, settings, {"accuracy": True})
        assert study.epochs_left([]) == epochs[0]
        claim = study.claim()
        assert claim is not None
        study.note(claim, [0.5] * (claim.goal or 5))
        if claim.goal is None:
            study.end(claim, TrialState.COMPLETE, [0.5])
        else:
            study.pause(claim)
        assert study.epochs_left(study.trials()) == epochs[1]
