"""The record of a search, as Optuna and its plots read it."""

import warnings
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.visualization import matplotlib as plots

from tests.helpers.runs import rows
from tests.helpers.searching import search, write_search


def study_of(folder: Path, name: str) -> optuna.Study:
    """Load a study without the project's code."""
    storage = JournalStorage(JournalFileBackend(str(folder / "search.journal")))
    return optuna.load_study(study_name=name, storage=storage)


def test_optuna_reads_a_study_a_space_and_plots_it(tmp_path: Path, data: Path) -> None:
    text = "method: asha\npoints: grid\nrungs: {after: 1, keep: 0.5}\n"
    text += "space: {learning_rate: {low: 0.04, high: 0.08, step: 0.04}, batch_size: [12, 18]}"
    folder = write_search(tmp_path / "s", text, num_epochs=4, monitor="loss")
    assert search(folder, data, "--jobs", "2") == 0
    study = study_of(folder, "search")
    assert [trial.params for trial in study.trials] == [
        {"learning_rate": rate, "batch_size": size}
        for rate in (0.04, 0.08)
        for size in ("12", "18")
    ]
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    for trial in study.trials:
        there = rows(folder / trial.user_attrs["name"])
        assert trial.intermediate_values == {row["epoch"]: row["val_loss"] for row in there}
    assert study.best_value == min(study.best_trial.intermediate_values.values())
    with warnings.catch_warnings(action="ignore"):
        plots.plot_optimization_history(study)
        plots.plot_intermediate_values(study)
        plots.plot_slice(study)
        plots.plot_parallel_coordinate(study)
    (folder / "search.yaml").write_text("space: {learning_rate: [0.04, 1e-3], batch_size: [12]}")
    assert search(folder, data) == 0
    assert [trial.params["learning_rate"] for trial in study_of(folder, "search 2").trials] == [
        "0.001"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tpe", "gp"])
def test_a_search_in_two_parts_tries_the_points_of_one(
    tmp_path: Path, data: Path, method: str
) -> None:
    space = "space: {learning_rate: {low: 1e-9, high: 1e-1, log: true}}"
    whole, parts = (write_search(tmp_path / name, "") for name in ("whole", "parts"))
    for folder, counts in ((whole, [13]), (parts, [6, 12, 13])):
        for count in counts:
            (folder / "search.yaml").write_text(f"method: {method}\ntrials: {count}\n{space}")
            assert search(folder, data) == 0
    one, other = (sorted(path.parent.name for path in f.glob("*/last.pt")) for f in (whole, parts))
    assert one == other


def test_a_search_learns_from_an_earlier_one(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = "space: {learning_rate: {low: 1e-6, high: 1e-1, log: true}}"
    earlier = write_search(tmp_path / "earlier", f"method: qmc\ntrials: 12\n{wide}")
    assert search(earlier, data, "--jobs", "2") == 0
    text = f"method: tpe\ntrials: 1\n{wide}\nstart_from: {earlier}"
    folder = write_search(tmp_path / "s", text)
    assert search(folder, data) == 0
    alone = write_search(tmp_path / "alone", f"method: tpe\ntrials: 1\n{wide}")
    assert search(alone, data) == 0
    (trial,), (other,) = (study_of(each, "search").trials for each in (folder, alone))
    assert trial.params != other.params
    assert len(study_of(folder, "search").user_attrs["prior"]) == 12
    (earlier / "search.journal").rename(tmp_path / "gone")
    text = text.replace(str(earlier), "nowhere")
    assert search(write_search(tmp_path / "t", text), data) == 2
    assert (
        "'start_from' is \"nowhere\", want a folder with search.journal" in capsys.readouterr().err
    )
