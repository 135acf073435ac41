"""The page of results, in a real headless Chromium without network: every control is used."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import synthesize_results
from core.results.page import data
from tests.conftest import Folder
from tests.helpers.browser import CHROMIUM, Browser
from tests.helpers.processes import in_progress, wait_for
from tests.helpers.runs import rows, run

ODD = '</script><script>throw 1</script> "x" & <b>'
SPACE = "method: random\ntrials: 9\nspace:\n  learning_rate: {low: 1e-4, high: 1.0, log: true}\n"


def write_run(folder: Path, number: int, epochs: int) -> None:
    """Write what a finished run leaves, but for checkpoints and predictions."""
    draw = np.random.default_rng(number)
    folder.mkdir()
    params: dict[str, Any] = {
        "learning_rate": 10.0 ** -(number % 5),
        "seed": number // 5,
        "num_epochs": epochs,
    }
    params["optimizer"] = ["Adam", "SGD"][number % 5 % 2]
    (folder / "params.json").write_text(json.dumps(params))
    names = [f"{split}_{name}" for split in ("train", "val") for name in ("accuracy", "f1", "loss")]
    lines = [
        {"epoch": epoch, "step": 30 * epoch, **{name: draw.uniform() for name in names}}
        | {"learning_rate": params["learning_rate"] / epoch}
        for epoch in range(1, epochs + 1)
    ]
    best = max(lines, key=lambda line: line["val_accuracy"])
    metrics = {name[4:]: value for name, value in best.items() if name.startswith("val_")}
    (folder / "metrics_val_best_weights.json").write_text(json.dumps(metrics))
    for name, found in (
        ("metrics.jsonl", lines),
        ("times.jsonl", [{"epoch": line["epoch"], "seconds": 60} for line in lines]),
    ):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in found))


def made_up(parent: Path, count: int, epochs: int = 4, *more: str) -> Path:
    """Write the folders of many runs, and return their page."""
    for number in range(count):
        write_run(parent / f"run_{number:04}", number, epochs)
    assert synthesize_results.main(["--parent_dir", str(parent), *more]) == 0
    return parent / "report.html"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of 40 runs, each in a row of its own."""
    return made_up(tmp_path_factory.mktemp("many"), 40, 4, "--no_group")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of 15 runs, 5 settings of 3 seeds."""
    folder = tmp_path_factory.mktemp("seeds")
    (folder / "search.yaml").write_text(SPACE)
    return made_up(folder, 15)


@pytest.fixture(scope="module")
def two_signs(
    tmp_path_factory: pytest.TempPathFactory, signs: Path
) -> Iterator[tuple[Path, list[Path]]]:
    """Return the folder of two trained runs on pictures of six classes, one with an odd name."""
    parent = tmp_path_factory.mktemp("signs")
    folders = [parent / ODD.replace("/", ""), parent / "other"]
    for folder, rate in zip(folders, (0.01, 0.001), strict=True):
        folder.mkdir()
        params: dict[str, Any] = {
            "task": "tests.projects.pictures",
            "num_channels": 2,
            "dropout_rate": 0.0,
        }
        params |= {"learning_rate": rate, "batch_size": 16, "num_epochs": 1, "num_threads": 1}
        (folder / "params.json").write_text(json.dumps(params))
        assert run(folder, signs) == 0
    assert synthesize_results.main(["--parent_dir", str(parent)]) == 0
    yield parent, folders


def names(browser: Browser) -> list[str]:
    return [text.removesuffix("best").strip() for text in browser.texts("#table tbody td.name")]


def text(browser: Browser, name: str) -> str:
    return str(browser.run(f"document.getElementById('{name}').textContent"))


def click(browser: Browser, selector: str, place: int = 0) -> None:
    browser.run(f"document.querySelectorAll({json.dumps(selector)})[{place}].click()")


def choose(browser: Browser, name: str, value: Any) -> None:
    """Set a control as a reader does."""
    script = f"const node = document.getElementById('{name}'); node.value = {json.dumps(value)};"
    events = "['input', 'change'].forEach(e => node.dispatchEvent(new Event(e)));"
    browser.run(f"(() => {{ {script} {events} }})()")


def traces(browser: Browser, chart: str) -> list[dict[str, Any]]:
    """Return what a chart draws: for every trace its name, x and y."""
    kept = "(t => ({name: t.name || '', x: [...t.x], y: [...t.y], mode: t.mode}))"
    found: list[dict[str, Any]] = json.loads(
        browser.run(f"JSON.stringify(document.getElementById('{chart}').data.map({kept}))")
    )
    return found


def axis(browser: Browser, chart: str, which: str) -> dict[str, Any]:
    """Return title, type and range of an axis as it is drawn."""
    kept = "({title, type, range}) => JSON.stringify({title: title.text, type, range})"
    drawn = f"document.getElementById('{chart}')._fullLayout.{which}axis"
    found: dict[str, Any] = json.loads(browser.run(f"({kept})({drawn})"))
    return found


def place_of(browser: Browser, chart: str, trace: int, point: int) -> tuple[float, float]:
    """Return where on the screen a point of a chart is."""
    script = f"""(() => {{
        const chart = document.getElementById('{chart}'), {{x, y}} = chart.data[{trace}];
        const {{xaxis, yaxis}} = chart._fullLayout, {{left, top}} = chart.getBoundingClientRect();
        return JSON.stringify([left + xaxis._offset + xaxis.l2p(xaxis.d2l(x[{point}])),
            top + yaxis._offset + yaxis.l2p(yaxis.d2l(y[{point}]))]);
    }})()"""
    x, y = json.loads(browser.run(script))
    return x, y


def test_the_page_sorts_and_filters_by_keyboard_alone(browser: Browser, many: Path) -> None:
    browser.open(many)
    assert len(names(browser)) == 40
    headers = browser.texts("#table th")
    assert headers[:2] == ["run", "accuracy"]
    for _ in range(60):  # labels, theme, filter, buttons, table, then the headers
        browser.press("Tab")
        if browser.run("document.activeElement.textContent") == "loss":
            break
    browser.press("Enter", "\r")
    column = headers.index("loss") + 1
    header = f"document.querySelectorAll('#table th')[{column - 1}].ariaSort"
    assert browser.run(header) == "ascending"
    cells = f"#table tbody td:nth-child({column})"
    values = [float(cell) for cell in browser.texts(cells)]
    assert values == sorted(values)
    browser.press("Enter", "\r")
    assert [float(cell) for cell in browser.texts(cells)] == sorted(values, reverse=True)
    browser.run("document.getElementById('filter').focus()")
    for key in "run_0007":
        browser.press(key, key)
    assert names(browser) == ["run_0007"]
    assert browser.texts("#count") == ["1 of 40 rows"]
    assert browser.faults == []


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ("learning_rate<0.01 status:finished", 16),
        ("learning_rate<=0.01 optimizer=SGD", 8),
        ('"best epoch">=1 best_epoch<=4', 40),
        ("optimizer!=SGD", 24),
        ("lr<0.01", 0),
    ],
)
def test_the_filter_understands_conditions(
    browser: Browser, many: Path, wanted: str, count: int
) -> None:
    if browser.run("location.href") != many.as_uri():
        browser.open(many)
    choose(browser, "filter", wanted)
    assert browser.texts("#count") == [f"{count} of 40 rows"]
    assert ("No column is called lr" in text(browser, "unknown")) == wanted.startswith("lr")
    assert len(traces(browser, "scatter")) == (1 if count else 0) if count else True


def test_columns_are_hidden_and_moved_and_stay_so(browser: Browser, many: Path) -> None:
    browser.open(many)
    before = browser.texts("#table th")
    click(browser, "#columns li[data-column=f1] .box")
    click(browser, "#columns li[data-column=optimizer] .left")
    changed = [name for name in before if name != "f1"]
    i = changed.index("optimizer")
    changed[i - 1 : i + 1] = changed[i - 1 : i + 1][::-1]
    assert browser.texts("#table th") == changed
    browser.open(many)
    assert browser.texts("#table th") == changed
    browser.run("localStorage.clear()")
    assert browser.faults == []


def test_links_lead_to_the_files_of_a_run_and_the_name_stays_in_view(
    browser: Browser, many: Path
) -> None:
    browser.open(many, width=375, height=800)
    links = json.loads(
        browser.run("JSON.stringify([...document.querySelectorAll('td.files a')].map(a => a.href))")
    )
    parent = many.parent.as_uri()
    first = names(browser)[0]
    assert links[:2] == [f"{parent}/{first}/", f"{parent}/{first}/params.json"]
    left = "document.querySelector('td.name').getBoundingClientRect().left"
    before = browser.run(left)
    browser.run("document.querySelector('#table').parentNode.scrollLeft = 300")
    assert browser.run(left) == before


def test_curves_tell_their_values_sorted(browser: Browser, many: Path) -> None:
    browser.open(many)
    assert len(traces(browser, "curves")) == 5
    click(browser, "#training")
    assert len(traces(browser, "curves")) == 10
    click(browser, "#training")
    browser.run("document.querySelector('#curves').scrollIntoView({block: 'center'})")
    box = "document.querySelector('#curves .nsewdrag').getBoundingClientRect()"
    browser.point(browser.run(f"{box}.right") - 3, browser.run(f"{box}.top") + 50)
    last = [rows(many.parent / name)[-1]["val_accuracy"] for name in names(browser)[:5]]
    shown = [f"{float(f'{value:.5g}'):.4g}" for value in sorted(last, reverse=True)]
    wait_for(lambda: text(browser, "hover").startswith("epoch 4: "))
    assert [part.split()[-1] for part in text(browser, "hover").split(";")] == shown
    floating = browser.texts("#curves .hoverlayer .legendtext")
    assert [line.split()[0] for line in floating] == shown
    browser.run("document.querySelector('#curves').focus()")
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    wait_for(lambda: text(browser, "hover").startswith("epoch 3: "))
    assert browser.faults == []


def test_curves_over_steps_and_minutes_smoothed_logarithmic_and_without_outliers(
    browser: Browser, many: Path
) -> None:
    browser.open(many)
    first = rows(many.parent / names(browser)[0])
    raw = [row["val_accuracy"] for row in first]
    for across, wanted in (("step", [30, 60, 90, 120]), ("minutes", [1, 2, 3, 4])):
        choose(browser, "across", across)
        assert traces(browser, "curves")[0]["x"] == wanted
        assert axis(browser, "curves", "x")["title"] == across
    choose(browser, "smooth", "0.5")
    smooth = next(trace for trace in traces(browser, "curves") if trace["name"])["y"]
    assert smooth[1] == pytest.approx((0.25 * raw[0] + 0.5 * raw[1]) / 0.75, rel=1e-4)
    choose(browser, "smooth", "0")
    click(browser, "#log-y")
    assert axis(browser, "curves", "y")["type"] == "log"
    click(browser, "#log-y")
    assert axis(browser, "curves", "y")["title"] == "val accuracy"
    choose(browser, "metric", "learning_rate")
    assert axis(browser, "curves", "y")["title"] == "learning_rate"
    assert traces(browser, "curves")[0]["y"][:2] == [
        first[0]["learning_rate"],
        first[0]["learning_rate"] / 2,
    ]
    assert browser.faults == []


def test_outliers_do_not_stretch_the_axis_and_are_said(browser: Browser, tmp_path: Path) -> None:
    write_run(tmp_path / "wild", 1, 40)
    lines = rows(tmp_path / "wild")
    lines[0]["val_accuracy"] = 1e6
    text_of = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "wild" / "metrics.jsonl").write_text(text_of)
    assert synthesize_results.main(["--parent_dir", str(tmp_path)]) == 0
    browser.open(tmp_path / "report.html")
    assert axis(browser, "curves", "y")["range"][1] < 2
    assert text(browser, "clipped").startswith("1 values lie outside of what is drawn")
    click(browser, "#clip")
    assert axis(browser, "curves", "y")["range"][1] > 1e6
    assert text(browser, "clipped") == ""


def test_more_curves_than_colours_are_grey_until_one_is_clicked(
    browser: Browser, many: Path
) -> None:
    browser.open(many)
    click(browser, "#tick")
    assert len(traces(browser, "curves")) == 40
    chips = "[...document.querySelectorAll('#legend li')].map(e => e.textContent)"
    before = json.loads(browser.run(f"JSON.stringify({chips})"))
    assert len(before) == 9 and before[-1].startswith("and 32 in grey")
    browser.run("document.querySelector('#curves').scrollIntoView({block: 'center'})")
    grey = browser.run("document.getElementById('curves').data.findIndex(t => !t.isLit)")
    browser.click(*place_of(browser, "curves", grey, 2))
    after = json.loads(browser.run(f"JSON.stringify({chips})"))
    assert len(after) == 9 and after != before
    click(browser, "#untick")
    assert text(browser, "curves") == "There is nothing to draw here yet."
    assert browser.faults == []


def test_seeds_are_averaged_with_a_band_and_labels_name_only_what_differs(
    browser: Browser, seeds: Path
) -> None:
    browser.open(seeds)
    runs = [trace for trace in traces(browser, "curves") if trace["name"]]
    assert len(runs) == 15
    choose(browser, "seeds-as", "mean")
    drawn = traces(browser, "curves")
    means = [trace for trace in drawn if trace["name"]]
    assert (len(drawn), len(means)) == (15, 5)  # two edges of a band and the mean of each setting
    first = json.loads(browser.run("JSON.stringify(data.rows[0].runs)"))
    values = [rows(seeds.parent / name)[0]["val_accuracy"] for name in first]
    assert means[0]["y"][0] == pytest.approx(np.mean(values), rel=1e-4)
    assert drawn[1]["y"][0] - drawn[0]["y"][0] == pytest.approx(
        2 * np.std(values, ddof=1), rel=1e-3
    )
    legend = browser.texts("#legend li")
    assert len(set(legend)) == 5
    assert all(label.startswith("learning_rate=") for label in legend)
    choose(browser, "labels", "names")
    assert browser.texts("#legend li")[0].startswith("run_00")
    choose(browser, "labels", "keys")


def test_values_are_drawn_against_any_key_and_all_keys_at_once(
    browser: Browser, seeds: Path
) -> None:
    browser.open(seeds)
    assert axis(browser, "scatter", "x") | {"range": 0} == {
        "title": "learning_rate", "type": "log", "range": 0,
    }  # fmt: skip
    assert sorted(traces(browser, "scatter")[0]["x"]) == [0.0001, 0.001, 0.01, 0.1, 1]
    choose(browser, "scatter-x", "optimizer")
    ticks = "document.getElementById('scatter')._fullLayout.xaxis.ticktext.join()"
    assert browser.run(ticks) == "Adam,SGD"
    choose(browser, "scatter-x", "order of start")
    choose(browser, "scatter-y", "loss")
    line, points = traces(browser, "scatter")
    assert line["y"] == list(
        np.minimum.accumulate([points["y"][points["x"].index(x)] for x in line["x"]])
    )
    choose(browser, "scatter-x", "accuracy")
    line, points = traces(browser, "scatter")
    pairs = [*zip(points["x"], points["y"], strict=True)]
    front = [
        (x, y) for x, y in pairs if all(y < b for a, b in pairs if a >= x and (a, b) != (x, y))
    ]
    corners = [*zip(line["x"], line["y"], strict=True)]
    assert corners[:-1] == sorted(front, reverse=True)  # less of the loss is better
    choose(browser, "scatter-x", "order of start")
    choose(browser, "scatter-colour", "learning_rate")
    parallel = traces(browser, "parallel")
    assert sum(trace["y"].count(None) for trace in parallel) == 5  # a line each
    click(browser, "#untick")
    browser.run("document.querySelector('#scatter').scrollIntoView({block: 'center'})")
    browser.click(*place_of(browser, "scatter", 1, 0))
    assert browser.run("chosen.length") == 1
    assert browser.faults == []


def test_a_run_shows_its_confusion_matrix_and_the_worst_images_of_a_class(
    browser: Browser, two_signs: tuple[Path, list[Path]]
) -> None:
    parent, folders = two_signs
    browser.open(parent / "report.html")
    assert sorted(names(browser)) == sorted(folder.name for folder in folders)
    told = "[...document.querySelectorAll('#matrix td')].map(e => e.firstChild?.textContent || '0')"
    cells = json.loads(browser.run(f"JSON.stringify({told})"))
    counts = np.array([int(cell) for cell in cells]).reshape(6, 6)
    assert counts.sum() == 20
    shares = browser.texts("#matrix td small")
    assert [s for s in shares if s == "100%"] == ["100%"] * int(
        (counts == counts.sum(1, keepdims=True)).sum() - (counts.sum(1) == 0).sum() * 6
    )
    images = "[...document.querySelectorAll('#worst img')]"
    decoded = f"Promise.all({images}.map(i => i.decode()))"
    widths = browser.run(f"{decoded}.then(() => JSON.stringify({images}.map(i => i.naturalWidth)))")
    assert json.loads(widths) == [64] * 12
    choose(browser, "look-class", "2")
    captions = browser.texts("#worst figcaption")
    assert len(captions) == counts[2].sum() and all(c.startswith("2") for c in captions)
    i, j = np.argwhere(counts)[0]
    click(browser, "#matrix td", 6 * i + j)
    assert len(browser.texts("#worst figcaption")) == counts[i, j]
    click(browser, "#worst button")
    assert browser.run("document.getElementById('zoom').open")
    assert browser.run("document.querySelector('#zoom img').src.startsWith('data:image/jpeg')")
    click(browser, "#zoom form button")
    choose(browser, "look-run", folders[1].name)
    assert folders[1].name in text(browser, "which")
    assert browser.faults == []


def test_two_runs_are_held_against_each_other(
    browser: Browser, two_signs: tuple[Path, list[Path]]
) -> None:
    parent, _ = two_signs
    browser.open(parent / "report.html")
    told = browser.texts("#differs tr")
    assert sum("learning_rate" in line for line in told) == 1
    assert not any("batch_size" in line for line in told)  # is the same
    assert len(traces(browser, "both-curves")) == 2
    assert len(browser.texts("#matrix-a td")) == len(browser.texts("#matrix-b td")) == 36
    found = [
        np.load(folder / "predictions_val.npz")["outputs"].argmax(axis=1)
        for folder in sorted(parent.iterdir()) if folder.is_dir()
    ]  # fmt: skip
    differ = int((found[0] != found[1]).sum())
    assert f"answer differently on {differ} of 20 examples" in text(browser, "disagree")
    assert len(browser.texts("#disagreed figure")) == min(24, differ)
    choose(browser, "run-b", browser.run("document.getElementById('run-a').value"))
    assert "does not have" in text(browser, "disagree")
    assert browser.faults == []


def test_what_a_run_no_longer_has_is_said(
    browser: Browser, run_folder: Folder, signs: Path, tmp_path: Path
) -> None:
    folder = run_folder("run", num_epochs=1)
    assert run(folder, signs) == 0
    for name in ("best.pt", "predictions_val.npz"):  # less is there, less is shown
        (folder / name).unlink()
        assert synthesize_results.main(["--parent_dir", str(tmp_path)]) == 0
        browser.open(tmp_path / "report.html")
        assert "Not shown" in text(browser, "why")
        assert browser.faults == []


def test_a_regression_shows_predicted_against_true(
    browser: Browser, tmp_path: Path, no_data: Path
) -> None:
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    params: dict[str, Any] = {
        "task": "tests.projects.regression",
        "monitor": "error",
        "monitor_mode": "min",
    }
    params |= {"depth": 1, "num_epochs": 1, "batch_size": 8, "learning_rate": 0.01}
    (folder / "params.json").write_text(json.dumps(params))
    assert run(folder, no_data) == 0
    assert synthesize_results.main(["--parent_dir", str(folder.parent)]) == 0
    browser.open(folder.parent / "report.html")
    with np.load(folder / "predictions_val.npz") as file:
        truth, found = file["labels"], file["outputs"].ravel()
    points = traces(browser, "fit")[1]
    assert sorted(points["x"]) == sorted(truth)
    assert sorted(points["y"]) == pytest.approx(sorted(found), rel=1e-3)
    left = sorted(traces(browser, "residuals")[1]["y"])
    assert left == pytest.approx(sorted(found - truth), abs=2e-3)
    assert browser.run("document.getElementById('confusion').hidden")
    assert browser.faults == []


@pytest.mark.parametrize("count", [1, 600])
def test_the_page_works_with_one_run_and_with_hundreds(
    browser: Browser, tmp_path: Path, count: int
) -> None:
    page = made_up(tmp_path, count, 3, "--no_group")
    browser.open(page, width=375, height=800)
    assert browser.run("document.documentElement.scrollWidth") <= 375
    assert len(names(browser)) == min(count, 200)
    assert browser.texts("#count") == [f"{count} of {count} rows"]
    if count > 200:
        assert page.stat().st_size < 5_200_000 + 4000 * count
        click(browser, "#more")
        assert len(names(browser)) == count
    assert browser.faults == []


def test_without_plotly_the_rest_of_the_page_is_there(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "find_spec", lambda name: None)
    page = made_up(tmp_path, 3)
    assert page.stat().st_size < 200_000
    browser.open(page)
    assert len(names(browser)) == 3
    assert "pip install plotly" in text(browser, "curves")
    assert browser.faults == []


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("allowed", [True, False])
def test_a_running_run_is_read_again_or_a_button_reloads(tmp_path: Path, allowed: bool) -> None:
    write_run(tmp_path / "run", 1, 3)
    (tmp_path / "run" / "status.json").write_text('{"state": "running", "epoch": 3}')
    with in_progress(tmp_path / "run"):
        assert synthesize_results.main(["--parent_dir", str(tmp_path)]) == 0
    lines = rows(tmp_path / "run")
    more = json.dumps(lines[-1] | {"epoch": 4, "step": 120}) + "\n"
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write(more)
    options = ["--allow-file-access-from-files"] if allowed else []
    browser = Browser(tmp_path / "profile", *options)
    try:
        browser.open(tmp_path / "report.html")
        if allowed:
            wait_for(lambda: text(browser, "live").startswith("run: running, epoch 4"))
            assert traces(browser, "curves")[0]["x"] == [1, 2, 3, 4]
        else:
            wait_for(lambda: browser.texts("#live button") == ["Reload"])
    finally:
        browser.close()


def test_light_and_dark_follow_the_system_and_the_button(browser: Browser, tmp_path: Path) -> None:
    page = made_up(tmp_path, 2)
    brightness = []
    for dark in (False, True):
        browser.open(page, dark=dark)
        brightness.append(mean_of(browser, tmp_path))
        click(browser, "#theme")
        brightness.append(mean_of(browser, tmp_path))
    light, button_dark, dark_system, button_light = brightness
    assert min(light, button_light) > 200
    assert max(button_dark, dark_system) < 60


def mean_of(browser: Browser, folder: Path) -> float:
    (folder / "screen.png").write_bytes(browser.screenshot())
    return float(np.asarray(Image.open(folder / "screen.png").convert("L")).mean())


def test_the_script_of_the_page_is_at_most_500_lines() -> None:
    lines = [(data.HERE / name).read_text().splitlines() for name in data.SCRIPTS]
    assert sum(map(len, lines)) <= 500
