"""Scores on disk, image by image, so that an interrupted run loses at most one image."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from ..data.readers import DataError
from ..writing import check_folder, unwritable
from .mask_ap import ObjectMatches
from .metrics import Counts, SampleScore, dice, iou


@dataclass(frozen=True)
class Row:
    """Score of one class in one image, with one seed of one method.

    Attributes:
        method: key of the method in its run.
        mode: the method's mode.
        seed: of the points.
        score: of the class.
    """

    method: str
    mode: str
    seed: int
    score: SampleScore


class RowWriter:
    """Writer of images to one file; a truncated file is first cut back to a whole image.

    Each image is one write: a line per row, then a line that closes it with its number of rows.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        check_folder(path.parent)
        end = 0
        if path.exists():
            for image in _images(path):
                end = image.end
        self._file = path.open("ab")
        self._file.truncate(end)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except OSError as close_error:  # What is in its buffer cannot be written either.
            if error is None:
                raise unwritable(self._path, close_error) from None

    def add(self, image: str, rows: Sequence[Row]) -> None:
        """Append an image with all its rows."""
        # In ASCII: a name that cannot be decoded comes back from its escapes.
        lines = [json.dumps(_to_json(row)) for row in rows]
        lines.append(json.dumps({"done": image, "rows": len(rows)}))
        try:
            self._file.write(("\n".join(lines) + "\n").encode())
            self._file.flush()
        except OSError as error:
            raise unwritable(self._path, error) from None


def read_rows(folder: Path) -> dict[str, list[Row]]:
    """Read all complete images in the files of a folder, each once.

    Raises:
        DataError: a file is damaged.
    """
    images: dict[str, list[Row]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for image in _images(path):
            images.setdefault(image.key, image.rows)
    return images


@dataclass(frozen=True)
class _Image:
    key: str
    rows: list[Row]
    end: int
    """Offset in the file after this image, bytes."""


def _images(path: Path) -> Iterator[_Image]:
    """Yield the complete images of a file; an incomplete last one is ignored."""
    end = 0
    rows: list[Row] = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            return
        end += len(line)
        try:
            entry = json.loads(line)
            if "done" not in entry:
                rows.append(_from_json(entry))
                continue
            if entry["rows"] != len(rows):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"Line {number} of {path} is damaged. Delete the file to score its images again."
            ) from None
        yield _Image(entry["done"], rows, end)
        rows = []


def _to_json(row: Row) -> dict:
    score = row.score
    return {
        "method": row.method,
        "mode": row.mode,
        "seed": row.seed,
        "image": score.image,
        "class": score.name,
        "present": score.present,
        **asdict(score.counts),
        "values": {name: _known(value) for name, value in score.values.items()},
        "seconds": score.seconds,
        "presence": _known(score.presence),
        **({} if score.objects is None else {"objects": asdict(score.objects)}),
    }


def _from_json(entry: dict) -> Row:
    score = SampleScore(
        name=entry["class"],
        counts=Counts(entry["intersection"], entry["predicted"], entry["truth"]),
        image=entry["image"],
        values={name: _number(value) for name, value in _values(entry).items()},
        seconds=entry["seconds"],
        present=entry["present"],
        presence=_number(entry["presence"]),
        objects=_objects(entry["objects"]) if "objects" in entry else None,
    )
    return Row(entry["method"], entry["mode"], entry["seed"], score)


def _objects(entry: dict) -> ObjectMatches:
    lists = {name: tuple(entry[name]) for name in ("scores", "hits", "ignored")}
    return ObjectMatches(entry["truths"], **lists)


def _values(entry: dict) -> dict[str, float | None]:
    """Read the scores; rows of version 0.1 store them in several entries."""
    if "values" in entry:
        return entry["values"]
    counts = Counts(entry["intersection"], entry["predicted"], entry["truth"])
    values = {"iou": iou(counts), "dice": dice(counts)}
    values |= {name: entry[name] for name in ("mae", "boundary_f")}
    saliency = entry["saliency"] or {}
    return values | {f"saliency_{n}" if n == "mae" else n: v for n, v in saliency.items()}


def _known(value: float) -> float | None:
    """Replace NaN by ``None``, since JSON has no NaN."""
    return None if math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value
