"""Training samples whose trunk features are computed once and kept on disk.

The trunk is frozen, so what it says of an augmented view never changes: a view that is seen a
second time costs a read.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from ..data.stream import TrainingStream
from ..geometry import normalize
from ..models.trunk import STRIDE, Trunk
from ..weights.presets import Preset
from ..writing import write_json

logger = logging.getLogger(__name__)

BATCH = 8


class FrozenViews(Dataset):
    """The first N samples of a stream, again and again in another order.

    Each sample is a dict of tensors:
        ``features`` float16 (C, S / 32, S / 32): the trunk's last C packed channels;
        ``classes`` int16 (L, L), ``domain`` and ``name`` int64 (): see :class:`TrainingStream`.
    """

    def __init__(self, stream: TrainingStream, count: int, channels: int, folder: Path) -> None:
        """Prepare the samples.

        Args:
            stream: whose first ``count`` samples are kept.
            count: N.
            channels: C.
            folder: of the files; one that is not finished goes on where it stopped.
        """
        self.stream, self.count, self.folder = stream, count, folder
        folder.mkdir(parents=True, exist_ok=True)
        cells, labels = stream.side // STRIDE, stream.label_side
        exists = (folder / "features.npy").is_file()
        mode = "r+" if exists else "w+"

        def open_file(name: str, dtype: type, *shape: int) -> np.memmap:
            path = folder / f"{name}.npy"
            return np.lib.format.open_memmap(path, mode, dtype, None if exists else (count, *shape))

        self.features = open_file("features", np.float16, channels, cells, cells)
        self.classes = open_file("classes", np.int16, labels, labels)
        self.meta = open_file("meta", np.int64, 2)

    def __len__(self) -> int:
        return self.count

    @torch.no_grad()
    def fill(self, trunk: Trunk, preset: Preset) -> None:
        """Compute what is missing; the trunk runs here, the loader prepares images beside it."""
        progress = self.folder / "done.json"
        start = json.loads(progress.read_text(encoding="utf-8")) if progress.is_file() else 0
        if start >= self.count:
            return
        loader = DataLoader(
            Subset(self.stream, range(start, self.count)), batch_size=BATCH, num_workers=1
        )
        channels = self.features.shape[1]
        for batch in tqdm(loader, "views", mininterval=10):
            stop = start + len(batch["image"])
            pixels = normalize(batch["image"], preset.clip_mean, preset.clip_std)
            self.features[start:stop] = trunk(pixels)[:, -channels:].half().numpy()
            self.classes[start:stop] = batch["classes"].numpy()
            self.meta[start:stop] = torch.stack((batch["domain"], batch["name"]), 1).numpy()
            start = stop
            write_json(progress, start)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        epoch, place = divmod(index, self.count)
        view = int(np.random.default_rng((self.stream.seed, epoch)).permutation(self.count)[place])
        domain, name = self.meta[view]
        return {
            "features": torch.from_numpy(np.array(self.features[view])),
            "classes": torch.from_numpy(np.array(self.classes[view])),
            "domain": torch.tensor(domain),
            "name": torch.tensor(name),
        }
