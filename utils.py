"""The names that tasks and scripts use, each defined in `core/`."""

from core.batches import Batches  # examples in memory, a whole batch at a time
from core.checkpoint import load_checkpoint, save_checkpoint  # as in the CS230 template
from core.classification import confusion_matrix, precision_recall_f1  # of class numbers
from core.errors import DataError, listed  # a fault in the data, told without a traceback
from core.images import png, read_image, read_images  # bytes of a picture; uint8, cached
from core.params import Params  # hyperparameters as attributes
from core.records import RunningAverage, save_dict_to_json, set_logger  # as in the CS230 template

__all__ = [
    "Batches",
    "DataError",
    "Params",
    "RunningAverage",
    "confusion_matrix",
    "listed",
    "load_checkpoint",
    "png",
    "precision_recall_f1",
    "read_image",
    "read_images",
    "save_checkpoint",
    "save_dict_to_json",
    "set_logger",
]
