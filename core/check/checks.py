"""The list of checks, in the order of causes, and running them."""

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from core.base.errors import NumericError, UsageError, UserError, did_you_mean
from core.check import (
    data_checks,
    label_checks,
    net_checks,
    output_checks,
    picture_checks,
    run_checks,
    split_checks,
    structure_checks,
    training_checks,
)
from core.check.subject import DoubtError, FaultError, NotApplicableError, Subject
from core.machine.faults import of_task

SECONDS = 25.0  # that a check may take
# A check returns a word on what it found. It raises FaultError where the net or a loader is not
# sound, and NotApplicableError where it can tell nothing.
CHECKS: dict[str, Callable[[Subject], str | None]] = {
    "every example can be read": data_checks.every_example_can_be_read,
    "the loader yields the same batches twice": data_checks.the_same_order_twice,
    "worker processes change no batch": data_checks.workers_change_nothing,
    "another process reads the same": run_checks.another_process_reads_the_same,
    "no example is far longer than others": data_checks.lengths_are_alike,
    "splits share no example": data_checks.splits_share_no_example,
    "splits share no picture": picture_checks.pictures_are_in_one_split,
    "validation shows each example once": split_checks.validation_shows_each_example_once,
    "validation is not augmented": split_checks.validation_is_not_augmented,
    "splits are on one scale": split_checks.splits_are_on_one_scale,
    "no input is the label": split_checks.no_input_is_the_label,
    "pixels are in place": picture_checks.pixels_are_in_place,
    "training examples are mixed": label_checks.training_examples_are_mixed,
    "splits number their classes alike": split_checks.class_names_agree,
    "labels are of one kind in all splits": label_checks.labels_are_of_one_kind,
    "every class has examples": label_checks.every_class_has_examples,
    "rare labels weigh no less": label_checks.rare_labels_weigh_no_less,
    "every weight is a parameter": structure_checks.all_weights_are_known,
    "frozen weights are loaded": training_checks.frozen_weights_are_loaded,
    "frozen parts are in eval mode": structure_checks.frozen_parts_rest,
    "batch norm averages over batches": structure_checks.batch_norm_remembers,
    "evaluation repeats itself": run_checks.evaluation_repeats_itself,
    "a right answer has the lowest loss": structure_checks.a_right_answer_has_the_lowest_loss,
    "outputs fit labels": net_checks.outputs_fit_labels,
    "outputs have the range of the loss": structure_checks.outputs_have_the_range_of_the_loss,
    "metrics know a right answer": structure_checks.metrics_know_a_right_answer,
    "the first loss is near chance": net_checks.first_loss_is_near_chance,
    "a step stays in train mode": training_checks.a_step_stays_in_train_mode,
    "a step updates once": net_checks.steps_update_once,
    "units differ": training_checks.units_differ,
    "a gradient reaches every weight": net_checks.gradient_reaches_every_weight,
    "dropout keeps enough": training_checks.dropout_keeps_enough,
    "the net learns one batch by heart": net_checks.one_batch_is_learned,
    "vectors of a class are near": net_checks.vectors_of_a_class_are_near,
    "the learning rate lasts": training_checks.the_rate_lasts,
    "flips keep classes": picture_checks.flips_keep_classes,
    "labels go with inputs": label_checks.labels_go_with_inputs,
    "what is learned holds in validation": split_checks.what_is_learned_holds,
    "a last batch of one is evaluated": output_checks.a_batch_of_one_is_evaluated,
    "no output depends on other examples": output_checks.examples_do_not_meet,
    "no output reads the labels": output_checks.outputs_do_not_read_labels,
    "no output sees the future": output_checks.outputs_do_not_see_the_future,
    "padding changes no output": output_checks.padding_changes_nothing,
    "saved weights are the whole net": run_checks.saved_weights_are_the_whole_net,
    "the batch size changes no number": run_checks.batch_size_changes_no_number,
    "the same seed gives the same steps": run_checks.the_same_seed_gives_the_same_steps,
    "a stopped and resumed run ends bit-equal": run_checks.a_resumed_run_ends_bit_equal,
    "speed": data_checks.measure,
}
_READ, _TWICE = [*CHECKS][:2]
_KIND, _REPEATS = "labels are of one kind in all splits", "evaluation repeats itself"
_RIGHT, _FIT = "a right answer has the lowest loss", "outputs fit labels"
_RANGE, _SCALE = "outputs have the range of the loss", "splits are on one scale"
_GRADIENT, _LEARNED = "a gradient reaches every weight", "the net learns one batch by heart"
_ONE, _MEET = "a last batch of one is evaluated", "no output depends on other examples"
_SAVED, _SEED = "saved weights are the whole net", "the same seed gives the same steps"
# What a check needs to have passed, or been reached: after a fault there it would only tell of it
# again. All need that every example can be read.
NEEDS = {
    "worker processes change no batch": [_TWICE],
    "another process reads the same": [_TWICE],
    "validation is not augmented": [_TWICE],
    _SCALE: [_TWICE],
    _KIND: ["splits number their classes alike"],
    "every class has examples": [_KIND],
    "rare labels weigh no less": [_KIND],
    _REPEATS: [_TWICE, _KIND],
    _RIGHT: [_KIND],
    _FIT: [_RIGHT],
    _RANGE: [_RIGHT],
    "metrics know a right answer": [_KIND],
    "the first loss is near chance": [_RANGE, _SCALE],
    "units differ": ["a step updates once"],
    _GRADIENT: ["units differ"],
    _LEARNED: [_GRADIENT, "dropout keeps enough", "frozen parts are in eval mode", _FIT, _RANGE],
    "vectors of a class are near": [_GRADIENT],
    "flips keep classes": [_LEARNED],
    "labels go with inputs": ["flips keep classes", "every class has examples", _SCALE],
    "what is learned holds in validation": [
        "training examples are mixed",
        "labels go with inputs",
        "batch norm averages over batches",
    ],
    _ONE: [_GRADIENT, _KIND],
    _MEET: [_REPEATS, _ONE],
    "no output reads the labels": [_REPEATS],
    "no output sees the future": [_REPEATS],
    "padding changes no output": [_REPEATS],
    _SAVED: [_REPEATS, "every weight is a parameter"],
    "the batch size changes no number": [
        _MEET,
        "padding changes no output",
        "rare labels weigh no less",
        _FIT,
    ],
    _SEED: [_TWICE],
    "a stopped and resumed run ends bit-equal": [_SAVED, _SEED],
}


@dataclass
class Report:
    """What the checks found so far, printed line by line."""

    with_traceback: bool = False
    failed: dict[str, str] = field(default_factory=dict)  # check -> cause, as `of_task` names it
    rows: list[dict[str, object]] = field(default_factory=list)

    def run(self, what: str, check: Callable[[], str | None]) -> bool:
        """Run one check and report it; returns whether it did not fail."""
        began, verdict, cause = time.monotonic(), "pass", ""
        try:
            told = check()
        except (NotApplicableError, DoubtError) as error:
            verdict = "warn" if isinstance(error, DoubtError) else "n/a"
            told = str(error)
        except Exception as error:  # a fault of the user's code, too
            if self.with_traceback and not isinstance(error, FaultError):
                traceback.print_exc()
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            cause = "" if isinstance(error, UserError) else of_task(error) or ""
            cause = str(error) if isinstance(error, NumericError) else cause
            told = cause or kind + (" ".join(str(error).split()) or "no message")
            verdict = "not reached" if cause and cause in self.failed.values() else "FAIL"
            self.failed[what] = cause or what
        self.add(what, verdict, told, time.monotonic() - began)
        return verdict != "FAIL"

    def add(self, what: str, verdict: str, told: str | None, seconds: float = 0.0) -> None:
        """Report what was found."""
        row = {"check": what, "verdict": verdict, "message": told}
        self.rows.append(row | {"seconds": round(seconds, 2)})
        if verdict != "not reached":
            print(f"{verdict:<4}  {what}" + (f": {told}" if told else ""), flush=True)

    def end(self) -> None:
        """Print what was not reached."""
        left = [str(row["check"]) for row in self.rows if row["verdict"] == "not reached"]
        if left:
            print(f"Not reached, because of what failed: {'; '.join(left)}.")


def run_all(subject: Subject, report: Report, waived: Mapping[str, str]) -> None:
    """Run all checks but those that are waived, or need one that has failed."""
    if wrong := [name for name in waived if name not in CHECKS]:
        hint = did_you_mean(wrong[0], CHECKS, 0.5)
        raise UsageError(f"waived_checks of net.py: there is no check {wrong[0]!r}{hint}")
    for what, check in CHECKS.items():
        lacking = {_READ, *NEEDS.get(what, [])} & report.failed.keys()
        if lacking:  # nor is what needs this one reached
            report.failed[what] = ""
        if what in waived:
            report.add(what, "waived", waived[what])
        elif lacking:
            report.add(what, "not reached", f"needs: {', '.join(sorted(lacking))}")
        else:
            subject.seconds = SECONDS
            subject.until = time.monotonic() + SECONDS
            report.run(what, partial(check, subject))
