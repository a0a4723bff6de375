"""The user's COCO JSONs: found, validated, and laid out as the readers expect them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from .images import MAX_PIXELS
from .pairing import FileIndex, is_litter, stem_of
from .readers.coco import check_shape
from .readers.coco_json import LISTS, CocoJson, is_coco, is_panoptic, read_coco
from .readers.common import DataError, read_json
from .unpacking import MAX_JSON_BYTES

PART = "all"
"""Name of a part in the layout."""

LOOKED_FOR = 50
"""Files of a listing that are tried in order to find their folder."""


@dataclass(frozen=True)
class Listing:
    """A COCO JSON with its images.

    Attributes:
        name: of the part that it lists.
        kind: of data set, as ``open_data`` knows it.
        path: of the JSON.
        images: the folder that its file names start from.
        masks: the same for panoptic PNGs; else ``None``.
    """

    name: str
    kind: str
    path: Path
    images: Path
    masks: Path | None

    def lay_out(self, folder: Path) -> dict[Path, Path]:
        """Link all files together in a new folder.

        Returns:
            The target of each link.
        """
        short = self.kind.removeprefix("coco-")
        links = {
            folder / "annotations" / f"{short}_{PART}.json": self.path,
            folder / PART: self.images,
        }
        if self.masks is not None:
            links[folder / "annotations" / f"{short}_{PART}"] = self.masks
        (folder / "annotations").mkdir(parents=True)
        for link, target in links.items():
            link.symlink_to(target.resolve())
        return links


def find_listings(root: Path) -> list[Listing]:
    """Find the COCO JSONs in a folder and its sub-folders.

    Raises:
        DataError: one is invalid, or its images are missing.
    """
    near = [root, *folders_in(root)]
    all_folders = [*near, *(inner for folder in near[1:] for inner in folders_in(folder))]
    paths = [path for folder in near for path in sorted(folder.glob("*.json"))]
    found = (_read(path, root, all_folders) for path in paths)
    return [listing for listing in found if listing is not None]


def folders_in(folder: Path) -> list[Path]:
    """Return the visible sub-folders of a folder."""
    return sorted(p for p in folder.iterdir() if not is_litter(PurePath(p.name)) and p.is_dir())


def _read(path: Path, root: Path, folders: Sequence[Path]) -> Listing | None:
    """Read a JSON as a listing; ``None`` if it is something else."""
    if path.stat().st_size > MAX_JSON_BYTES:
        return None
    content = read_json(path)
    if not isinstance(content, dict) or not all(name in content for name in LISTS):
        return None
    panoptic = is_coco(content) and is_panoptic(content)
    del content  # Up to a gigabyte of objects, which are read again in one form.
    listed = read_coco(path, panoptic)
    _check_names(listed.images, path)
    if panoptic:
        _check_names(listed.annotations, path)
    else:
        _check_shapes(listed)
    part = path.stem.removeprefix("instances_").removeprefix("panoptic_")
    of_images = _folder_of(listed.images, folders, part, path)
    others = [folder for folder in folders if folder != of_images]
    inside = path.parent != root and path.parent.name != "annotations"
    return Listing(
        path.parent.name if inside else path.stem.removeprefix("instances_"),
        "coco-panoptic" if panoptic else "coco-instances",
        path,
        of_images,
        _folder_of(listed.annotations, others, path.stem, path) if panoptic else None,
    )


def _check_names(entries: Iterable[Mapping], path: Path) -> None:
    """Check that each name is a file inside the folder with a unique stem."""
    stems: set[str] = set()
    for entry in entries:
        name = PurePosixPath(entry["file_name"])
        if name.is_absolute() or ".." in name.parts:
            raise DataError(f"{path} lists “{name}”, a path outside its folder")
        if stem_of(name) in stems:
            raise DataError(f"{path} lists two files named “{name.stem}”, expected unique names")
        stems.add(stem_of(name))


def _check_shapes(listed: CocoJson) -> None:
    """Check sizes and shapes before any image is asked for."""
    sizes: dict[object, tuple[int, int]] = {}
    for image in listed.images:
        _check_size(image, listed.path)
        sizes[image["id"]] = (image["height"], image["width"])
    for annotation in listed.annotations:
        if annotation["segmentation"] is not None:
            where = f"{listed.path}: the segmentation of annotation {annotation['id']}"
            check_shape(annotation["segmentation"], sizes[annotation["image_id"]], where)


def _check_size(image: Mapping, path: Path) -> None:
    """Check the image size, since readers allocate a map of this size."""
    height, width = image["height"], image["width"]
    if height * width > MAX_PIXELS:
        raise DataError(
            f"{path} gives {image['file_name']} the size {width} × {height}, which is too large"
        )


def _folder_of(
    entries: Sequence[Mapping], folders: Sequence[Path], called: str, path: Path
) -> Path:
    """Return the folder that contains most of the first files, preferring the given name."""
    names = [entry["file_name"] for entry in entries[:LOOKED_FOR]]
    if not names:
        raise DataError(f"{path} lists no images")

    def fit(folder: Path) -> tuple[int, bool]:
        files = FileIndex(folder)
        return sum(files.find(name) is not None for name in names), folder.name == called

    best = max(folders, key=fit)
    if not fit(best)[0]:
        raise DataError(f"{path} lists {names[0]}, which does not exist")
    return best
