"""The list of checks, and running one of them."""

import traceback
from collections.abc import Callable

from core.base.errors import UserError
from core.check import data_checks, net_checks
from core.check.subject import FaultError, NotApplicableError, Subject

# A check returns a word on what it found. It raises FaultError where the net or a loader is not
# sound, and NotApplicableError where it can tell nothing.
CHECKS: dict[str, Callable[[Subject], str | None]] = {
    "the loader yields the same batches twice": data_checks.the_same_order_twice,
    "worker processes change no batch": data_checks.workers_change_nothing,
    "every example can be read": data_checks.every_example_can_be_read,
    "splits share no example": data_checks.splits_share_no_example,
    "labels are of one kind in all splits": data_checks.labels_are_of_one_kind,
    "the first loss is near chance": net_checks.first_loss_is_near_chance,
    "a gradient reaches every weight": net_checks.gradient_reaches_every_weight,
    "the net learns one batch by heart": net_checks.one_batch_is_learned,
    "no output depends on other examples": net_checks.examples_do_not_meet,
    "a last batch of one is evaluated": net_checks.a_batch_of_one_is_evaluated,
    "saved weights are the whole net": net_checks.saved_weights_are_the_whole_net,
    "evaluation repeats itself": net_checks.evaluation_repeats_itself,
    "the batch size changes no number": net_checks.batch_size_changes_no_number,
    "the same seed gives the same steps": net_checks.the_same_seed_gives_the_same_steps,
    "a stopped and resumed run ends bit-equal": net_checks.a_resumed_run_ends_bit_equal,
    "speed": data_checks.measure,
}


def report(what: str, check: Callable[[], str | None], with_traceback: bool) -> bool:
    """Run one check and print its line; returns whether it did not fail."""
    verdict = "pass"
    try:
        told = check()
    except NotApplicableError as error:
        verdict, told = "n/a", str(error)
    except Exception as error:  # a fault of the user's code, too
        if with_traceback and not isinstance(error, FaultError):
            traceback.print_exc()
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        verdict, told = "FAIL", kind + (" ".join(str(error).split()) or "no message")
    print(f"{verdict:<4}  {what}" + (f": {told}" if told else ""), flush=True)
    return verdict != "FAIL"
