"""The page of results, in a real headless Chromium."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import synthesize_results
from tests.conftest import Folder
from tests.helpers.browser import Browser
from tests.helpers.runs import rows, run

ODD = '</script><script>throw 1</script> "x" & <b>'


def write_run(folder: Path, number: int, epochs: int) -> None:
    """Write what a finished run leaves, but for checkpoints and predictions."""
    draw = np.random.default_rng(number)
    folder.mkdir()
    params = {"learning_rate": 10.0 ** -(number % 5), "seed": number // 5, "num_epochs": epochs}
    (folder / "params.json").write_text(json.dumps(params))
    names = [f"{split}_{name}" for split in ("train", "val") for name in ("accuracy", "f1", "loss")]
    lines = [
        {"epoch": epoch, "step": 30 * epoch, **{name: draw.uniform() for name in names}}
        for epoch in range(1, epochs + 1)
    ]
    best = max(lines, key=lambda line: line["val_accuracy"])
    metrics = {name[4:]: value for name, value in best.items() if name.startswith("val_")}
    (folder / "metrics_val_best_weights.json").write_text(json.dumps(metrics))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)


def made_up(parent: Path, count: int, epochs: int = 4) -> Path:
    """Write the folders of many runs, and return their page."""
    for number in range(count):
        write_run(parent / f"run_{number:04}", number, epochs)
    assert synthesize_results.main(["--parent_dir", str(parent), "--no_group"]) == 0
    return parent / "report.html"


def names(browser: Browser) -> list[str]:
    return browser.texts("#table tbody td.name")


def test_the_page_sorts_and_filters_by_keyboard_alone(browser: Browser, tmp_path: Path) -> None:
    browser.open(made_up(tmp_path, 50))
    best_first = names(browser)
    assert len(best_first) == 50
    headers = browser.texts("#table th")
    for _ in range(40):  # theme, filter, table, then the headers
        browser.press("Tab")
        if browser.run("document.activeElement.textContent") == "loss":
            break
    browser.press("Enter", "\r")
    column = headers.index("loss") + 1
    assert (
        browser.run(f"document.querySelectorAll('#table th')[{column - 1}].ariaSort") == "ascending"
    )
    cells = f"#table tbody td:nth-child({column})"
    values = [float(text) for text in browser.texts(cells)]
    assert values == sorted(values)
    browser.press("Enter", "\r")
    assert [float(text) for text in browser.texts(cells)] == sorted(values, reverse=True)
    browser.run("document.getElementById('filter').focus()")
    for key in "run_0007":
        browser.press(key, key)
    assert names(browser) == ["run_0007"]
    assert browser.texts("#count") == ["1 of 50 rows"]
    assert browser.faults == []


def test_the_page_overlays_curves_and_tells_their_values(browser: Browser, tmp_path: Path) -> None:
    browser.open(made_up(tmp_path, 3))
    curves = "document.querySelectorAll('path.curve').length"
    assert browser.run(curves) == 3
    browser.run("document.getElementById('training').click()")
    assert browser.run(curves) == 6
    browser.run("document.getElementById('training').click()")
    browser.run("document.querySelector('#table tbody input').click()")
    assert browser.run(curves) == 2
    browser.run("document.querySelector('#curves svg').scrollIntoView({block: 'center'})")
    box = "document.querySelector('#curves svg').getBoundingClientRect()"
    browser.point(browser.run(f"{box}.right") - 20, browser.run(f"{box}.top") + 50)
    last = browser.run("document.getElementById('hover').textContent")
    shown = names(browser)[1]
    row = rows(tmp_path / shown)[-1]
    assert last.startswith("Epoch 4:")
    assert f"{shown} {row['val_accuracy']:.4g}" in last
    browser.run("document.querySelector('#curves svg').focus()")
    browser.press("ArrowLeft")
    assert browser.run("document.getElementById('hover').textContent").startswith("Epoch 3:")
    assert browser.faults == []


@pytest.mark.parametrize("count", [1, 600])
def test_the_page_works_with_one_run_and_with_hundreds(
    browser: Browser, tmp_path: Path, count: int
) -> None:
    page = made_up(tmp_path, count, epochs=3)
    browser.open(page)
    assert len(names(browser)) == min(count, 200)
    assert browser.texts("#count") == [f"{count} of {count} rows"]
    if count > 200:
        assert page.stat().st_size < 4000 * count
        browser.run("document.getElementById('more').click()")
        assert len(names(browser)) == count
    assert browser.faults == []


def test_the_best_run_shows_its_confusion_matrix_and_its_worst_images(
    browser: Browser, run_folder: Folder, signs: Path, tmp_path: Path
) -> None:
    folder = run_folder(ODD.replace("/", ""), num_epochs=1)
    assert run(folder, signs) == 0
    parent = ["--parent_dir", str(tmp_path)]
    assert synthesize_results.main(parent) == 0
    browser.open(tmp_path / "report.html")
    assert names(browser) == [folder.name + "best"]
    counts = [int(text or 0) for text in browser.texts("#matrix td")]
    assert (len(counts), sum(counts)) == (36, 20)
    images = "[...document.images]"
    decoded = f"Promise.all({images}.map(i => i.decode()))"
    widths = browser.run(f"{decoded}.then(() => JSON.stringify({images}.map(i => i.naturalWidth)))")
    assert json.loads(widths) == [64] * 12
    assert browser.faults == []
    for name in ("best.pt", "predictions_val.npz"):  # less is there, less is shown
        (folder / name).unlink()
        assert synthesize_results.main(parent) == 0
        browser.open(tmp_path / "report.html")
        assert "Not shown" in browser.run("document.getElementById('why').textContent")
        assert browser.faults == []


def test_light_and_dark_follow_the_system_and_the_button(browser: Browser, tmp_path: Path) -> None:
    page = made_up(tmp_path, 2)
    brightness = []
    for dark in (False, True):
        browser.open(page, dark=dark)
        brightness.append(mean_of(browser, tmp_path))
        browser.run("document.getElementById('theme').click()")
        brightness.append(mean_of(browser, tmp_path))
    light, button_dark, dark_system, button_light = brightness
    assert min(light, button_light) > 200
    assert max(button_dark, dark_system) < 60


def mean_of(browser: Browser, folder: Path) -> float:
    (folder / "screen.png").write_bytes(browser.screenshot())
    return float(np.asarray(Image.open(folder / "screen.png").convert("L")).mean())
