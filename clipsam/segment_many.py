"""Masks of a whole collection in one table, resumable at any moment."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from .data.checking import NoteLog
from .data.readers import DataError
from .data.sources import ImageSource, SourceImage
from .encoded_image import EncodedImage
from .encoded_masks import CocoIds, EncodedMask, ImageMasks, encode_masks
from .errors import ClipsamError
from .evaluation.claim import claim_folder, weights_digest
from .names import fold_name
from .predictor import PredictOptions, Predictor
from .types import Prompt
from .weights.backbones import Precision
from .writing import OutputError, check_folder, replacing

TABLE = "masks.parquet"
"""The finished table, in the folder of results."""

PART_ROWS = 256
"""Rows after which a part of the table is written."""

PART_SECONDS = 60.0
"""Time after which a part of the table is written: what a killed job loses at most."""

ROWS_AT_A_TIME = 256
"""Rows in memory when a table is read."""

SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "path": pa.string(),
        "height": pa.int32(),
        "width": pa.int32(),
        "error": pa.string(),
        "method": pa.string(),
        "preset": pa.string(),
        "seconds": pa.float64(),
        "masks": pa.list_(
            pa.struct(
                {
                    "class": pa.string(),
                    "instance": pa.int32(),
                    "score": pa.float64(),
                    "bbox": pa.list_(pa.float64()),
                    "area": pa.int64(),
                    "rle": pa.struct({"size": pa.list_(pa.int32()), "counts": pa.string()}),
                }
            )
        ),
    }
)
"""The table's columns: ``bbox`` and ``rle`` as in COCO; what is unknown is null."""


@dataclass(frozen=True)
class ManySettings:
    """What is asked of every image; a folder of results belongs to one of these.

    Attributes:
        source: the collection, as :func:`.data.sources.open_source` takes it.
        classes: names of each class, synonyms after the first.
        method: as ``ID[:MODE][@BUNDLE]``.
        preset: of the backbones.
        precision: of SAM's encoders.
        threshold: masks are logits above it.
        regions: whether masks of a method that tells no objects apart are divided into connected
            regions.
        options: of the predictions.
    """

    source: str
    classes: tuple[tuple[str, ...], ...]
    method: str
    preset: str
    precision: Precision = "auto"
    threshold: float = 0.0
    regions: bool = False
    options: PredictOptions = field(default_factory=PredictOptions)


def segment_many(
    images: ImageSource, predictor: Predictor, prompt: Prompt, settings: ManySettings, out: Path
) -> MaskTable:
    """Segment every image of a collection that has no row yet, and write the table.

    An image that cannot be used has a row with an ``error``, and the job goes on.

    Args:
        images: the collection.
        predictor: the method.
        prompt: the classes.
        settings: of this job, which must be those of rows already in ``out``.
        out: folder of the results.

    Raises:
        PromptError: the method needs more than class names.
        DataError: ``out`` belongs to another job, a file in it is damaged, or there is no image.
        OutputError: ``out`` cannot be written.
    """
    predictor.check_prompt(prompt, settings.options)
    config = {**asdict(settings), "weights": weights_digest(predictor.network())}
    claim_folder(out, config, "masks")
    table = MaskTable(out, prompt.texts)
    done = table.keys()
    notes = NoteLog()
    bar = tqdm(total=images.count, initial=len(done), desc="segment", unit="image", mininterval=1.0)
    with bar, _PartWriter(table) as writer:
        for image in images.images():
            if image.key not in done:
                writer.add(_row(image, predictor, prompt, settings, notes))
                bar.update()
    table.conclude()
    return table


def _row(
    image: SourceImage,
    predictor: Predictor,
    prompt: Prompt,
    settings: ManySettings,
    notes: NoteLog,
) -> dict:
    """Segment one image; return its row."""
    row: dict = dict.fromkeys(SCHEMA.names)
    row |= {"key": image.key, "path": image.path, "masks": []}
    row |= {"method": predictor.info.id, "preset": settings.preset}
    try:
        loaded = image.read()
        notes.add(loaded.note)
        height, width = loaded.values.shape[:2]
        row |= {"height": height, "width": width}
        prediction = predictor.predict(EncodedImage(loaded.values), prompt, settings.options)
        found = encode_masks(prediction, settings.threshold, settings.regions)
    except (ClipsamError, OSError, torch.OutOfMemoryError) as error:
        return row | {"error": str(error)}
    masks = [
        {
            "class": prompt.texts[mask.category],
            "instance": mask.instance,
            "score": mask.score,
            "bbox": mask.bbox,
            "area": mask.area,
            "rle": {"size": [height, width], "counts": mask.counts},
        }
        for mask in found
    ]
    return row | {"seconds": prediction.total_seconds, "masks": masks}


class MaskTable:
    """The rows of a job: a finished table, and parts that are not in it yet."""

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        """Look at a folder.

        Args:
            out: the folder of results.
            classes: names of the classes, in order.
        """
        self.out = out
        self.classes = tuple(classes)
        self.parts = out / "parts"

    def keys(self) -> set[str]:
        """Return the keys of all images with a row.

        Raises:
            DataError: a file is damaged.
        """
        return {
            key
            for path in self._files()
            for batch in _batches(path, ["key"])
            for key in batch.column("key").to_pylist()
        }

    def conclude(self) -> None:
        """Write the finished table, then remove the parts; each image has one row in it.

        Raises:
            DataError: there is no row, or a file is damaged.
            OutputError: it cannot be written.
        """
        files = self._files()
        if not files:
            raise DataError("The collection holds no image")
        if files != [self.out / TABLE]:
            with replacing(self.out / TABLE) as partial:
                self._join(files, partial)
        if self.parts.is_dir():
            shutil.rmtree(self.parts)

    def _join(self, files: Sequence[Path], path: Path) -> None:
        """Write all rows to one file, each image's once."""
        seen: set[str] = set()
        with pq.ParquetWriter(path, SCHEMA) as writer:
            for file in files:
                for batch in _batches(file):
                    # A job that was killed before its parts were removed has left rows twice.
                    keys = batch.column("key").to_pylist()
                    new = pa.array([key not in seen for key in keys], pa.bool_())
                    seen.update(keys)
                    writer.write_batch(batch.filter(new))

    def add_part(self, rows: Sequence[dict]) -> None:
        """Write a part whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        check_folder(self.parts)
        last = max((int(path.stem) for path in self.parts.glob("[0-9]*.parquet")), default=-1)
        with replacing(self.parts / f"{last + 1:06d}.parquet") as partial:
            pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), partial)

    def images(self) -> Iterator[ImageMasks]:
        """Go through the images of the finished table that have no error."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        for batch in _batches(self.out / TABLE):
            for row in batch.to_pylist():
                if row["error"] is None:
                    masks = [_mask(entry, numbers) for entry in row["masks"]]
                    size = row["height"], row["width"]
                    yield ImageMasks(row["key"], row["path"], size, masks)

    def count(self) -> tuple[int, int]:
        """Return how many images the finished table holds, and how many of them have an error."""
        table = pq.read_table(self.out / TABLE, columns=["error"])
        return table.num_rows, table.num_rows - table.column("error").null_count

    def _files(self) -> list[Path]:
        finished = [self.out / TABLE] if (self.out / TABLE).is_file() else []
        return finished + sorted(self.parts.glob("[0-9]*.parquet"))


class _PartWriter:
    """Rows that are not yet written; at the end of the block, also of a failed one, they are."""

    def __init__(self, table: MaskTable) -> None:
        self._table = table
        self._rows: list[dict] = []
        self._since = time.monotonic()

    def __enter__(self) -> _PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, OutputError):  # Then no other can be written.
            self._flush()

    def add(self, row: dict) -> None:
        self._rows.append(row)
        late = time.monotonic() - self._since > PART_SECONDS
        if late or len(self._rows) >= PART_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._table.add_part(self._rows)
        self._rows, self._since = [], time.monotonic()


def coco_ids(source: ImageSource, classes: Sequence[str]) -> CocoIds:
    """Return the collection's own ids for its images, and for the classes that it has."""
    known = source.coco_categories
    numbers = [number for number in known.values() if isinstance(number, int)]
    new = iter(range(max(numbers, default=0) + 1, max(numbers, default=0) + 1 + len(classes)))
    categories = [known[name] if name in known else next(new) for name in map(fold_name, classes)]
    return CocoIds(categories, source.coco_images)


def _batches(path: Path, columns: Sequence[str] | None = None) -> Iterable[pa.RecordBatch]:
    """Read a table of ours, a few rows at a time."""
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(ROWS_AT_A_TIME, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is damaged ({error}). Delete it to segment its images again."
        ) from None


def _mask(entry: dict, numbers: dict[str, int]) -> EncodedMask:
    x, y, width, height = entry["bbox"]
    return EncodedMask(
        category=numbers[entry["class"]],
        instance=entry["instance"],
        score=entry["score"],
        box=(x, y, x + width, y + height),
        area=entry["area"],
        counts=entry["rle"]["counts"],
    )
