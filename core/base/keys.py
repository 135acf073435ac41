"""The keys of a params file that the framework itself reads; any other key is the task's own.

`python -m core.base.keys` prints them as the table that stands in docs/params.md, and with
`--schema` as docs/params.schema.json.
"""

import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any

from core.base.errors import UsageError, UserError, spelled

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
KINDS |= {dict: "a mapping", list: "a list"}
LARGEST = 2**31 - 1  # of whole numbers
# Names that are taken for keys by mistake, and the key that is meant or holds them.
_OF_OPTIMIZERS = "weight_decay momentum betas eps nesterov dampening amsgrad"
_OF_SCHEDULERS = "gamma step_size milestones T_max T_0 eta_min max_lr pct_start"
MISTAKEN = {"lr": "learning_rate", **dict.fromkeys(_OF_OPTIMIZERS.split(), "optimizer_args")}
MISTAKEN |= dict.fromkeys(_OF_SCHEDULERS.split(), "lr_scheduler_args")


def of_type(value: Any, wanted: type) -> Any:
    """Return a number as the int or float that is wanted, however it is spelt: 1, 1.0 or 1e0."""
    if wanted is float and type(value) is int:
        return float(value)
    whole = wanted is int and type(value) is float and value.is_integer()
    return int(value) if whole else value


@dataclass(frozen=True)
class Key:
    """One declared key: its type, default, range and meaning.

    Null is allowed where `optional` or the default is None. `low` and `high` are allowed
    themselves, `above` and `below` are not. A key of `machine` does not decide the result of a run.
    """

    name: str
    type: type
    default: Any
    meaning: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()
    machine: bool = False
    optional: bool = False
    or_name: bool = False  # a string is allowed, too
    or_auto: bool = False  # "auto" is allowed, too

    def wanted(self) -> str:
        """Say in words what is allowed."""
        words = KINDS[self.type]
        if self.choices:
            *others, last = [str(choice).lower() for choice in self.choices]
            words = f"{', '.join(others)} or {last}"
            words = f"a list of {words}" if self.type is list else words
        limits = [f"{word} {bound}" for word, bound, _ in self._limits()]
        words = " ".join([words, " and ".join(limits)]) if limits else words
        words += ", or a name" if self.or_name else ", or auto" if self.or_auto else ""
        return words + (", or null" if self.optional or self.default is None else "")

    def check(self, value: Any, where: str) -> Any:
        """Return `value`, as the kind of number that is wanted; UsageError if it is not allowed."""
        if value is None and (self.optional or self.default is None):
            return None
        value = of_type(value, self.type)
        if self.type is list:
            value = [each.strip() for each in value.split(",")] if type(value) is str else value
            allowed = type(value) is list and all(each in self.choices for each in value)
        elif self.choices:
            allowed = any(type(value) is type(c) and value == c for c in self.choices)
        else:
            allowed = type(value) is self.type and value != ""
            allowed = allowed and all(within(value, bound) for _, bound, within in self._limits())
            allowed = allowed or (self.or_name and isinstance(value, str) and value != "")
            allowed = allowed or (self.or_auto and value == "auto")
        wanted = self.wanted()
        if allowed and type(value) is int and self.high is None and value > LARGEST:
            allowed, wanted = False, f"at most {LARGEST}"
        if not allowed:
            raise UsageError(f"{where}: {self.name!r} is {spelled(value)}, want {wanted}")
        return value

    def _limits(self) -> list[tuple[str, Any, Callable[[Any, Any], bool]]]:
        limits = [("above", self.above, gt), ("of at least", self.low, ge)]
        limits += [("below", self.below, lt), ("of at most", self.high, le)]
        return [limit for limit in limits if limit[1] is not None]


def _choice(choices: tuple[Any, ...], name: str, meaning: str, machine: bool = False) -> Key:
    """Return a key that is one of some values, the first by default."""
    return Key(name, str, choices[0], meaning, choices=choices, machine=machine)


_INTERVAL = "when it steps; auto: per update for OneCycleLR and CyclicLR, else per epoch"
_PRECISION = "bfloat16: autocast; auto: float32 or bfloat16, what ten passes show to be faster"
_FORMAT = "memory format of images and convolutions; auto: what ten passes show to be faster"
_THREADS = "CPU threads; null: OMP_NUM_THREADS, else the cores it may use; auto: the fastest number"
_MINUTES = "minutes between checkpoints inside an epoch; 0: after every step; null: none"
_KEEP = "checkpoints, evenly spaced over the epochs, that stay, for `verify.py`; null: none"
_MODE = "null: by its name, min for an error, max for a score"
_CHECKS = "steps between checks on a GPU that losses are finite"
_PREDICTIONS = "outputs of the best weights on the validation split; auto: up to 64 MB"
_SHARD = "each process of torchrun holds a part of the weights, for nets larger than a device"
_SHARD_CHECKPOINTS = "with `shard`, each process writes its part of last.pt into last.dcp"
_VAL_SPLIT = (
    "fraction of the training data held out for validation; 0 uses the task's own val split; "
    "a name stands for the task's split of this name"
)
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
_TRACK = "experiment trackers that get the rows of metrics.jsonl, too"
_KEYS = [
    Key("task", str, "model", "package that holds `net.py` and `data_loader.py`, a dotted name"),
    Key("data_dir", str, None, "folder of the data; null: what the task's `data_loader.py` says"),
    Key("seed", int, 230, "first weights, order of examples, augmentation, dropout", 0, 2**32 - 1),
    Key("learning_rate", float, 1e-3, "the optimizer's `lr`", above=0),
    Key("batch_size", int, 32, "examples per step", 1),
    Key("num_epochs", int, 10, "passes over the training split", 1),
    Key("optimizer", str, "Adam", "a class of `torch.optim`, by its own name"),
    Key("optimizer_args", dict, {}, "its other arguments, by their own names"),
    Key("lr_scheduler", str, None, "a class of `torch.optim.lr_scheduler`, by its own name"),
    Key(
        "lr_scheduler_args",
        dict,
        {},
        "its arguments; total_steps, T_max etc. default to the length of the run",
    ),
    _choice(("auto", "update", "epoch"), "lr_scheduler_interval", _INTERVAL),
    Key("monitor", str, None, "validation metric that picks the best; null: accuracy, else loss"),
    Key("monitor_mode", str, None, _MODE, choices=("max", "min")),
    Key("val_split", float, 0.0, _VAL_SPLIT, 0, below=1, or_name=True),
    _choice(("float32", "bfloat16", "float64", "auto"), "precision", _PRECISION),
    Key("channels_last", bool, False, _FORMAT, choices=(False, True, "auto")),
    Key("compile", bool, False, "`model.compile()`"),
    Key("deterministic", bool, False, "on a GPU: only kernels that repeat themselves to the bit"),
    Key("grad_clip", float, None, "largest norm of the gradient", above=0),
    Key("grad_accumulation", int, 1, "batches per update, weighted by their terms", 1),
    Key("ema_decay", float, None, "averaged weights are validated and kept", 0, below=1),
    Key("sync_batchnorm", bool, False, "batch norm over all processes of torchrun, on GPUs"),
    Key("shard", bool, False, _SHARD, machine=True),
    Key("shard_checkpoints", bool, False, _SHARD_CHECKPOINTS, machine=True),
    Key("early_stopping_patience", int, None, "epochs without a new best before it stops", 1),
    Key("num_threads", int, None, _THREADS, 1, 1024, or_auto=True),
    _choice(("auto", "cpu", "cuda", "mps"), "device", "auto: the first of cuda, mps, cpu", True),
    Key("num_workers", int, 0, "processes of a task's own DataLoader", 0, 256, machine=True),
    Key("checkpoint_minutes", float, 10.0, _MINUTES, 0, machine=True, optional=True),
    Key("keep_checkpoints", int, None, _KEEP, 1, 1000, machine=True),
    _choice(("auto", True, False), "save_predictions", _PREDICTIONS, True),
    Key("save_summary_steps", int, 100, _CHECKS, 1, machine=True),
    Key("track", list, [], _TRACK, choices=TRACKERS, machine=True),
    Key("tensorboard", bool, False, "the same as `track: [tensorboard]`", machine=True),
    Key("log_grad_norm", bool, False, "the norm of the gradient for trackers", machine=True),
    Key("log_histograms", bool, False, "histograms of the weights for TensorBoard", machine=True),
    Key("notes", str, None, "what this run is for, in your own words", machine=True),
    Key("tags", str, None, "words by which to find it, such as `baseline, paper`", machine=True),
]
KEYS = {key.name: key for key in _KEYS}
DEFAULTS = {key.name: key.default for key in _KEYS}


def decides(name: str, to_the_bit: bool = True) -> bool:
    """Tell whether a param decides the result; the number of threads decides the last bits only."""
    if name in ("data_dir", "cuda") or (name == "num_threads" and not to_the_bit):
        return False
    return name not in KEYS or not KEYS[name].machine


def deciding(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the params that decide the result of a run, to the bit."""
    return {name: value for name, value in params.items() if decides(name)}


@contextmanager
def naming_source(path: object, overrides: Collection[str]) -> Iterator[None]:
    """Let an error on a key, with which it begins, name the params file, or --set."""
    try:
        yield
    except UserError as error:
        key = str(error).split("'")[1] if str(error).startswith("'") else None
        if key not in KEYS:
            raise
        raise type(error)(f"{'--set' if key in overrides else path}: {error}") from error


def table() -> str:
    """Return the Markdown table of all keys."""
    rows = ["| key | default | what is allowed | meaning |", "|---|---|---|---|"]
    for key in KEYS.values():
        default = key.default if isinstance(key.default, str) else json.dumps(key.default)
        name = f"`{key.name}`" + (" \\*" if key.machine else "")
        rows.append(f"| {name} | {default} | {key.wanted()} | {key.meaning} |")
    return "\n".join(rows)


TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
TYPES |= {dict: "object", list: "array"}


def schema() -> str:
    """Return a JSON Schema of all keys, with which editors complete and check params files."""
    found: dict[str, Any] = {"$schema": {"type": "string"}}
    for key in KEYS.values():
        kinds = [TYPES[key.type], *(["string"] if key.or_name or key.or_auto else [])]
        if key.choices:
            kinds = [TYPES[type(choice)] for choice in key.choices]
        kinds = ["array"] if key.type is list else kinds
        if key.optional or key.default is None:
            kinds.append("null")
        kinds = list(dict.fromkeys(kinds))
        limits = {"minimum": key.low, "maximum": key.high}
        limits |= {"exclusiveMinimum": key.above, "exclusiveMaximum": key.below}
        about: dict[str, Any] = {"description": key.meaning, "default": key.default}
        about["type"] = kinds if kinds[1:] else kinds[0]
        if key.type is list:
            about["items"] = {"enum": [*key.choices]}
        elif key.choices:
            about["enum"] = [*key.choices, *([None] if "null" in kinds else [])]
        found[key.name] = about | {n: value for n, value in limits.items() if value is not None}
    top = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}
    return json.dumps(top | {"properties": found}, indent=2) + "\n"


if __name__ == "__main__":
    print(schema() if "--schema" in sys.argv else f"{table()}\n", end="")
