"""The names that tasks and scripts use, each defined in `core/`."""

from core.base.classification import (  # of class numbers
    confusion_matrix,
    macro_average,
    precision_recall_f1,
)
from core.base.errors import DataError, listed, plural  # a fault in the data, without a traceback
from core.base.params import Params  # hyperparameters as attributes
from core.cs230 import (  # as in the CS230 template
    RunningAverage,
    load_checkpoint,
    save_checkpoint,
    save_dict_to_json,
    set_logger,
)
from core.data.batches import Batches  # examples in memory, a whole batch at a time
from core.data.images import (  # bytes of a picture; uint8, cached
    PICTURES,  # how the names of image files end
    png,
    read_image,
    read_images,
)
from core.data.records import Records  # examples in shards, larger than memory
from core.machine.random_states import RowDraws  # of augmentation, each example's its own

__all__ = [
    "PICTURES",
    "Batches",
    "DataError",
    "Params",
    "Records",
    "RowDraws",
    "RunningAverage",
    "confusion_matrix",
    "listed",
    "load_checkpoint",
    "macro_average",
    "plural",
    "png",
    "precision_recall_f1",
    "read_image",
    "read_images",
    "save_checkpoint",
    "save_dict_to_json",
    "set_logger",
]
