"""Hand signs by a plain loop over a DataLoader, by Accelerate and by Lightning.

    python bench/by_hand/peers.py plain|accelerate|lightning ARRAYS EPOCHS BATCH_SIZE THREADS

All have the net, images in memory, augmentation, optimizer, schedule and memory format of
`signs.py`, in float32; they validate and write a checkpoint after every epoch. Prints figures as
one line of JSON.
"""

import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from signs import Net, augment
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

RATE = 3e-3
Loaders = dict[str, DataLoader]
Found = dict[str, Any]


def make_loaders(path: str, batch_size: int) -> Loaders:
    """Return loaders of (images uint8, labels) of train and val, from an .npz file."""
    with np.load(path) as arrays:
        data = {name: torch.from_numpy(arrays[name]) for name in arrays}
    return {
        split: DataLoader(
            TensorDataset(data[f"{split}_images"], data[f"{split}_labels"]),
            batch_size,
            shuffle=split == "train",
        )
        for split in ("train", "val")
    }


def make_optimizer(net: nn.Module, steps: int) -> tuple[Any, Any]:
    """Return AdamW and its schedule over so many steps."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.05, fused=True)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)


def make_net() -> nn.Module:
    """Return the net in the memory format that suits its convolutions."""
    return Net(32).to(memory_format=torch.channels_last)


def loss_of(net: Callable[..., Tensor], images: Tensor, labels: Tensor) -> Tensor:
    """Return the loss () of a training batch, augmented as `signs.py` does."""
    x = augment(images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
    return F.cross_entropy(net(x), labels, label_smoothing=0.1)


def right(net: Callable[..., Tensor], images: Tensor, labels: Tensor) -> Tensor:
    """Return which answers (B,) of a validation batch are right."""
    x = (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
    return net(x).argmax(1) == labels


class Clock:
    """Takes the time of epochs: images a second of training, seconds of the rest."""

    def __init__(self, images: int) -> None:
        self.images, self.first_step = images, 0.0
        self.rates: list[float] = []
        self.rests: list[float] = []

    def begin(self) -> None:
        """Note that an epoch begins."""
        self.first_step = self.first_step or time.time()
        self.began = time.perf_counter()

    def trained(self) -> None:
        """Note that its training is done."""
        self.rates.append(self.images / (time.perf_counter() - self.began))
        self.began = time.perf_counter()

    def ended(self) -> None:
        """Note that it is validated, and its checkpoint written."""
        self.rests.append(time.perf_counter() - self.began)

    def found(self, accuracy: float) -> Found:
        """Return the figures."""
        found = {"rates": self.rates, "evaluations": self.rests, "accuracy": accuracy}
        return {"first_step": self.first_step, **found}


def train_epoch(
    net: Any, optimizer: Any, schedule: Any, batches: Iterable[Any], backward: Any
) -> None:
    """Train for an epoch, and read every loss, as loops by hand do."""
    net.train()
    for images, labels in batches:
        loss = loss_of(net, images, labels)
        optimizer.zero_grad()
        backward(loss)
        optimizer.step()
        schedule.step()
        loss.item()


def plain(loaders: Loaders, epochs: int, folder: Path) -> Found:
    """Train by a plain loop."""
    net = make_net()
    optimizer, schedule = make_optimizer(net, epochs * len(loaders["train"]))
    clock, accuracy = Clock(len(loaders["train"].dataset)), 0.0  # type: ignore[arg-type]
    for _ in range(epochs):
        clock.begin()
        train_epoch(net, optimizer, schedule, loaders["train"], Tensor.backward)
        clock.trained()
        net.eval()
        with torch.no_grad():
            answers = torch.cat([right(net, *batch) for batch in loaders["val"]])
        accuracy = float(answers.float().mean())
        content = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(content | {"schedule": schedule.state_dict()}, folder / "last.pt")
        clock.ended()
    return clock.found(accuracy)


def accelerate(loaders: Loaders, epochs: int, folder: Path) -> Found:
    """Train by the same loop, with Accelerate in it."""
    from accelerate import Accelerator

    accelerator, net = Accelerator(cpu=True), make_net()
    optimizer, schedule = make_optimizer(net, epochs * len(loaders["train"]))
    clock, accuracy = Clock(len(loaders["train"].dataset)), 0.0  # type: ignore[arg-type]
    net, optimizer, schedule, training, validation = accelerator.prepare(
        net, optimizer, schedule, loaders["train"], loaders["val"]
    )
    for _ in range(epochs):
        clock.begin()
        train_epoch(net, optimizer, schedule, training, accelerator.backward)
        clock.trained()
        net.eval()
        with torch.no_grad():
            found = [accelerator.gather_for_metrics(right(net, *batch)) for batch in validation]
        accuracy = float(torch.cat(found).float().mean())
        accelerator.save_state(str(folder))
        clock.ended()
    return clock.found(accuracy)


def lightning(loaders: Loaders, epochs: int, folder: Path) -> Found:
    """Train by Lightning's Trainer, without its bar and its summary."""
    import lightning
    from lightning.pytorch.loggers import CSVLogger

    clock = Clock(len(loaders["train"].dataset))  # type: ignore[arg-type]

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_net()

        def training_step(self, batch: Any, index: int) -> Tensor:
            loss = loss_of(self.net, *batch)
            self.log("train_loss", loss, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("accuracy", right(self.net, *batch).float().mean(), batch_size=len(batch[0]))

        def configure_optimizers(self) -> Any:
            optimizer, schedule = make_optimizer(self.net, epochs * len(loaders["train"]))
            step = {"scheduler": schedule, "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": step}

    class Timing(lightning.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch:
                clock.ended()
            clock.begin()

        def on_validation_start(self, trainer: Any, module: Any) -> None:
            if not trainer.sanity_checking:
                clock.trained()

        def on_train_end(self, trainer: Any, module: Any) -> None:
            clock.ended()

    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        default_root_dir=folder,
        logger=CSVLogger(folder),
        callbacks=[Timing()],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), loaders["train"], loaders["val"])
    return clock.found(float(trainer.callback_metrics["accuracy"]))


def main(way: str, path: str, epochs: int, batch_size: int, threads: int) -> None:
    """Train, and print the figures."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(threads)
    ways = {f.__name__: f for f in (plain, accelerate, lightning)}
    with tempfile.TemporaryDirectory() as folder:
        found = ways[way](make_loaders(path, batch_size), epochs, Path(folder))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))
