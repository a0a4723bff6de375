"""Scores on disk, image by image, so that a killed run loses at most the image it was at."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from ..data.readers import DataError
from .metrics import Counts
from .runner import SampleScore
from .saliency import SaliencyScore


@dataclass(frozen=True)
class Row:
    """One class of one image, scored with one seed of one method.

    Attributes:
        method: as the run calls it.
        mode: the method's mode.
        seed: of the points.
        score: of the class.
    """

    method: str
    mode: str
    seed: int
    score: SampleScore


class RowWriter:
    """Appends images to one file; a file that was cut short is first cut back to a whole image.

    Each image is one write: a line per row, then a line that closes it with its number of rows.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
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
        self._file.close()

    def add(self, image: str, rows: Sequence[Row]) -> None:
        """Append an image with all its rows."""
        lines = [json.dumps(_to_json(row), ensure_ascii=False) for row in rows]
        lines.append(json.dumps({"done": image, "rows": len(rows)}, ensure_ascii=False))
        self._file.write(("\n".join(lines) + "\n").encode())
        self._file.flush()


def read_rows(folder: Path) -> dict[str, list[Row]]:
    """All whole images in the files of a folder, each once, however often it was scored.

    Raises:
        DataError: a file holds what no run wrote.
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
    """Bytes of the file up to the end of this image."""


def _images(path: Path) -> Iterator[_Image]:
    """The whole images of a file; what follows the last one was cut short, or is being written."""
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
                f"Line {number} of {path} is damaged: delete the file to score its images again."
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
        "mae": score.mae,
        "boundary_f": score.boundary_f,
        "seconds": score.seconds,
        "presence": None if math.isnan(score.presence) else score.presence,
        "saliency": None if score.saliency is None else asdict(score.saliency),
    }


def _from_json(entry: dict) -> Row:
    presence, saliency = entry["presence"], entry["saliency"]
    score = SampleScore(
        name=entry["class"],
        counts=Counts(entry["intersection"], entry["predicted"], entry["truth"]),
        image=entry["image"],
        mae=entry["mae"],
        boundary_f=entry["boundary_f"],
        seconds=entry["seconds"],
        present=entry["present"],
        presence=float("nan") if presence is None else presence,
        saliency=None if saliency is None else SaliencyScore(**saliency),
    )
    return Row(entry["method"], entry["mode"], entry["seed"], score)
