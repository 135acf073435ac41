import os
import random

import torchvision.transforms as transforms
from PIL import Image
from torch.utils.data import DataLoader, Dataset

train_transformer = transforms.Compose(
    [transforms.Resize(16), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)
eval_transformer = transforms.Compose([transforms.Resize(16), transforms.ToTensor()])


class SIGNSDataset(Dataset):
    def __init__(self, data_dir, transform):  # type: ignore[no-untyped-def]
        self.filenames = [
            os.path.join(data_dir, f) for f in os.listdir(data_dir) if f.endswith(".jpg")
        ]
        self.labels = [int(os.path.split(filename)[-1][0]) for filename in self.filenames]
        self.transform = transform

    def __len__(self):  # type: ignore[no-untyped-def]
        return len(self.filenames)

    def __getitem__(self, idx):  # type: ignore[no-untyped-def]
        image = Image.open(self.filenames[idx])
        if random.random() < 0.5:
            image = image.convert("RGB")
        return self.transform(image), self.labels[idx]


def fetch_dataloader(types, data_dir, params):  # type: ignore[no-untyped-def]
    dataloaders = {}
    for split in ["train", "val", "test"]:
        if split in types:
            path = os.path.join(data_dir, "{}_signs".format(split))  # noqa: UP032
            train = split == "train"
            dataloaders[split] = DataLoader(
                SIGNSDataset(path, train_transformer if train else eval_transformer),
                batch_size=params.batch_size,
                shuffle=train,
                num_workers=params.num_workers,
                pin_memory=params.cuda,
            )
    return dataloaders
