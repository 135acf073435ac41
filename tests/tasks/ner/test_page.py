"""The page of results of tagged sentences, in a real browser."""

import json
from pathlib import Path

import synthesize_results
from tests.helpers.browser import Browser
from tests.helpers.runs import run
from tests.tasks.ner.project import PROJECT, make_data


def test_sentences_show_words_with_tags_and_scores_of_whole_entities(
    browser: Browser, tmp_path: Path
) -> None:
    data, parent = tmp_path / "data", tmp_path / "runs"
    data.mkdir()
    make_data(data)
    for name, rate in (("a", 0.02), ("b", 0.002)):
        (parent / name).mkdir(parents=True)
        params = PROJECT.all_params(num_epochs=2, learning_rate=rate)
        (parent / name / "params.json").write_text(json.dumps(params))
        assert run(parent / name, data) == 0
    assert synthesize_results.main(["--parent_dir", str(parent)]) == 0
    browser.open(parent / "report.html", width=375, height=800)
    best = browser.run("data.best.run")
    metrics = json.loads((parent / best / "metrics_val_best_weights.json").read_text())
    table = [row.split("\n") for row in browser.texts("#entities tbody tr th")]
    assert table
    scores = json.loads(browser.run("JSON.stringify(data.looks[data.best.run].entities)"))
    right = sum(round(recall * count) for _, recall, _, count in scores.values())
    present = sum(count for *_, count in scores.values())
    assert right / present == metrics["recall"]
    heads = browser.texts("#matrix thead th")[1:]
    assert all(heads[i + 1] == f"I-{name[2:]}" for i, name in enumerate(heads) if name[0] == "B")
    words = "[...document.querySelectorAll('#worst .word')]"
    assert browser.run(f"{words}.every(e => getComputedStyle(e).whiteSpace === 'nowrap')")
    wide = f"Math.max(...{words}.map(e => e.getBoundingClientRect().right))"
    assert browser.run(wide) <= 375
    assert browser.run("document.documentElement.scrollWidth") <= 375
    assert "answer differently on" in browser.texts("#disagree")[0]
    assert browser.faults == []
