"""Which metric picks the best epoch, and in which direction."""

import pytest

from core.base.errors import UsageError
from core.base.monitor import check_monitor, monitored, more_is_better

ERRORS = ["mae", "val_mse", "rmse", "top5_error", "perplexity", "cer", "loss_kl", "ppl", "FID"]
ERRORS += ["mae_f", "rmse_f", "error_top1", "err_top5", "dist_ap"]
SCORES = ["accuracy", "f1", "F1_macro", "top5", "mAP", "auc", "meanIoU", "r2", "roc_auc", "neg_mse"]


@pytest.mark.parametrize("name", ERRORS)
def test_less_of_an_error_is_better(name: str) -> None:
    assert monitored({"monitor": name}, [name]) == (name, False)


@pytest.mark.parametrize("name", SCORES)
def test_more_of_a_score_is_better(name: str) -> None:
    assert monitored({"monitor": name}, [name]) == (name, True)


@pytest.mark.parametrize("name", ["agreement", "size", "speedup", "quality"])
def test_a_name_that_does_not_say_it_needs_a_mode(name: str) -> None:
    with pytest.raises(UsageError, match="monitor_mode"):
        monitored({"monitor": name}, [name])
    assert monitored({"monitor": name, "monitor_mode": "min"}, [name]) == (name, False)


@pytest.mark.parametrize("name", ["ce_loss", "soft", "accuracy_term", "reconstruction"])
def test_less_of_every_part_of_the_loss_is_better(name: str) -> None:
    assert monitored({"monitor": name}, ["accuracy"]) == (name, False)


def test_parts_of_words_do_not_count() -> None:
    assert more_is_better("glossary") is None
    assert more_is_better("terror_rate") is None
    assert more_is_better("maps") is None


@pytest.mark.parametrize(
    ("metrics", "losses"), [(["loss"], None), (["accuracy"], ["loss", "accuracy"])]
)
def test_a_metric_and_a_part_of_the_loss_of_one_name_are_refused(
    metrics: list[str], losses: list[str] | None
) -> None:
    with pytest.raises(UsageError, match="names a metric and a part of the loss"):
        check_monitor({}, metrics, losses)
