"""The keys of a params file that the framework itself reads; any other key is the task's own.

`python -m core.base.keys` prints them as the table that stands in README.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.base.errors import UsageError

TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    dict: "a mapping",
}


@dataclass(frozen=True)
class Key:
    """One declared key: its type, default, range and meaning.

    Null is allowed where `optional` or the default is None. `low` and `high` are allowed themselves
    unless `open_low` or `open_high`. A key of `machine` does not decide the result of a run.
    """

    name: str
    type: type
    default: Any
    meaning: str
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False
    choices: tuple[Any, ...] = ()
    machine: bool = False
    optional: bool = False

    def wanted(self) -> str:
        """Say in words what is allowed."""
        if self.choices:
            names = [str(choice).lower() for choice in self.choices]
            words = " or ".join([", ".join(names[:-1]), names[-1]])
        else:
            words = TYPE_NAMES[self.type]
        if self.low is not None:
            words += f" {'above' if self.open_low else 'of at least'} {self.low}"
        if self.high is not None:
            words += f"{' and' if self.low is not None else ''} "
            words += f"{'below' if self.open_high else 'of at most'} {self.high}"
        return words + (", or null" if self.optional or self.default is None else "")

    def check(self, value: Any, where: str) -> Any:
        """Return `value`, as a float where a float is wanted; UsageError if it is not allowed."""
        if value is None and (self.optional or self.default is None):
            return None
        if self.type is float and type(value) is int:
            value = float(value)
        if self.choices:
            allowed = any(
                type(value) is type(choice) and value == choice for choice in self.choices
            )
        else:
            allowed = type(value) is self.type and self._in_range(value)
        if not allowed:
            raise UsageError(f"{where}: {self.name!r} is {value!r}, want {self.wanted()}")
        return value

    def _in_range(self, value: Any) -> bool:
        above = self.low is None or value > self.low or (value == self.low and not self.open_low)
        below = (
            self.high is None or value < self.high or (value == self.high and not self.open_high)
        )
        return above and below


_KEYS = [
    Key("task", str, "model", "package that holds `net.py` and `data_loader.py`, a dotted name"),
    Key("data_dir", str, None, "folder of the data; null: what the task's `data_loader.py` says"),
    Key(
        "seed", int, 230, "initial weights, order of examples, augmentation, dropout", 0, 2**32 - 1
    ),
    Key("learning_rate", float, 1e-3, "the optimizer's `lr`", 0, open_low=True),
    Key("batch_size", int, 32, "examples per step", 1),
    Key("num_epochs", int, 10, "passes over the training split", 1),
    Key("optimizer", str, "Adam", "a class of `torch.optim`, by its own name"),
    Key("optimizer_args", dict, {}, "its other arguments, by their own names"),
    Key("lr_scheduler", str, None, "a class of `torch.optim.lr_scheduler`, by its own name"),
    Key("lr_scheduler_args", dict, {}, "its arguments; lengths left out are filled in"),
    Key(
        "lr_scheduler_interval",
        str,
        "auto",
        "when it steps; auto: per update for OneCycleLR and CyclicLR, else per epoch",
        choices=("auto", "update", "epoch"),
    ),
    Key("monitor", str, None, "validation metric that picks the best; null: accuracy, else loss"),
    Key("monitor_mode", str, None, "null: min for loss, else max", choices=("max", "min")),
    Key(
        "val_split",
        float,
        0.0,
        "share of the training split to validate on; 0: the task's own",
        0,
        1,
        open_high=True,
    ),
    Key(
        "precision",
        str,
        "float32",
        "bfloat16: autocast; auto: that where the device has it, else float32",
        choices=("float32", "bfloat16", "float64", "auto"),
    ),
    Key("channels_last", bool, False, "memory format of images and convolutions"),
    Key("compile", bool, False, "`model.compile()`"),
    Key("deterministic", bool, False, "on a GPU: only kernels that repeat themselves to the bit"),
    Key("grad_clip", float, None, "largest norm of the gradient", 0, open_low=True),
    Key("grad_accumulation", int, 1, "batches per update, weighted by their terms", 1),
    Key("ema_decay", float, None, "averaged weights are validated and kept", 0, 1, open_high=True),
    Key("sync_batchnorm", bool, False, "batch norm over all processes of torchrun, on GPUs"),
    Key("early_stopping_patience", int, None, "epochs without a new best before it stops", 1),
    Key("num_threads", int, None, "CPU threads; null: the cores this process may use", 1),
    Key(
        "device",
        str,
        "auto",
        "auto: cuda, mps or cpu, whichever is there first",
        choices=("auto", "cpu", "cuda", "mps"),
        machine=True,
    ),
    Key("num_workers", int, 0, "processes of a task's own DataLoader", 0, machine=True),
    Key(
        "checkpoint_minutes",
        float,
        10.0,
        "minutes between checkpoints inside an epoch; 0: after every step; null: none",
        0,
        machine=True,
        optional=True,
    ),
    Key(
        "save_predictions",
        str,
        "auto",
        "outputs of the best weights on the validation split; auto: up to 64 MB",
        choices=("auto", True, False),
        machine=True,
    ),
    Key("save_summary_steps", int, 100, "steps between training metrics", 1, machine=True),
    Key("tensorboard", bool, False, "rows of metrics.jsonl also for TensorBoard", machine=True),
]

KEYS = {key.name: key for key in _KEYS}
DEFAULTS = {key.name: key.default for key in _KEYS}


def decides(name: str, to_the_bit: bool = True) -> bool:
    """Tell whether a param decides the result of a run.

    The number of threads decides the last bits only.
    """
    if name in ("data_dir", "cuda") or (name == "num_threads" and not to_the_bit):
        return False
    return name not in KEYS or not KEYS[name].machine


def deciding(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the params that decide the result of a run, to the bit."""
    return {name: value for name, value in params.items() if decides(name)}


def table() -> str:
    """Return the Markdown table of all keys."""
    rows = ["| key | default | what is allowed | meaning |", "|---|---|---|---|"]
    for key in KEYS.values():
        default = "null" if key.default is None else str(key.default).lower()
        default = key.default if isinstance(key.default, str) else default
        name = f"`{key.name}`" + (" \\*" if key.machine else "")
        rows.append(f"| {name} | {default} | {key.wanted()} | {key.meaning} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
