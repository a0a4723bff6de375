"""The open-vocabulary test sets, each as a tiny tree in its published layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsam.data.readers import DataError, class_list, open_data
from clipsam.data.readers.voc import CONTEXT_NAMES, VOC_NAMES
from clipsam.data.samples import BACKGROUND, VOID

B, V = BACKGROUND, VOID
LAYOUTS = [
    (
        "a-847",
        "images_detectron2/validation",
        "annotations_detectron2/validation/ADE_val_00000001.tif",
        {0: 0, 255: 255, 256: 256, 846: 846, 65535: V},
    ),
    (
        "a-150",
        "images/validation",
        "annotations_detectron2/validation/ADE_val_00000001.png",
        {0: 0, 149: 149, 255: V},
    ),
    (
        "pc-459",
        "JPEGImages",
        "annotations_detectron2/pc459_val/2008_000002.tif",
        {0: 0, 255: 255, 458: 458, 459: V},
    ),
    (
        "pc-459",
        "images/validation",
        "annotations_ctx459/validation/2008_000002.tif",
        {0: 0, 255: 255, 458: 458, 65535: V},
    ),
    (
        "pc-59",
        "JPEGImages",
        "annotations_detectron2/pc59_val/2008_000002.png",
        {0: 0, 58: 58, 255: V},
    ),
    (
        "pc-59",
        "images/validation",
        "annotations_ctx59/validation/2008_000002.png",
        {0: 0, 58: 58, 255: V},
    ),
    (
        "pas-20",
        "JPEGImages",
        "annotations_detectron2/val/2007_000033.png",
        {0: 0, 19: 19, 255: V},
    ),
    (
        "pas-20",
        "images/validation",
        "annotations_pascal20/validation/2007_000033.png",
        {0: 0, 19: 19, 255: V},
    ),
    (
        "pas-20b",
        "JPEGImages",
        "annotations_detectron2_bg/val/2007_000033.png",
        {0: 0, 19: 19, 20: B, 255: V},
    ),
]


def picture(path: Path, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((2, width, 3), 90, np.uint8)).save(path)


def mask(path: Path, ids: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = np.uint16 if path.suffix == ".tif" else np.uint8
    Image.fromarray(np.array([ids, ids]).astype(kind)).save(path)


def pas_20(root: Path) -> Path:
    """PAS-20 with one image; returns its mask."""
    path = root / "annotations_detectron2" / "val" / "2007_000033.png"
    picture(root / "JPEGImages" / "2007_000033.jpg", 3)
    mask(path, [0, 19, 255])
    return path


@pytest.mark.parametrize(("kind", "images", "mask_path", "values"), LAYOUTS)
def test_layouts(tmp_path, kind, images, mask_path, values):
    stem = Path(mask_path).stem
    picture(tmp_path / images / f"{stem}.jpg", len(values))
    # The folder of VOC's images holds those of all parts.
    picture(tmp_path / images / "2009_000001.jpg", 1)
    mask(tmp_path / mask_path, list(values))
    data = open_data(f"{kind}:{tmp_path}", "val")
    assert data.keys == (stem,)
    assert data.names == class_list("pas-20" if kind == "pas-20b" else kind)
    classes = data[0].classes
    assert classes.dtype == np.int16
    np.testing.assert_array_equal(classes, [list(values.values())] * 2)


@pytest.mark.parametrize(
    ("kind", "wrong", "known"),
    [
        ("a-847", 847, "a-847's ids are 0..846 and 65535"),
        ("a-150", 150, "a-150's ids are 0..149 and 255"),
        ("pc-459", 460, "pc-459's ids are 0..458 and 459 and 65535"),
        ("pas-20", 20, "pas-20's ids are 0..19 and 255"),
        ("pas-20b", 21, "pas-20b's ids are 0..19 and 20 and 255"),
    ],
)
def test_unknown_id(tmp_path, kind, wrong, known):
    _, images, mask_path, _ = next(layout for layout in LAYOUTS if layout[0] == kind)
    picture(tmp_path / images / f"{Path(mask_path).stem}.jpg", 2)
    mask(tmp_path / mask_path, [0, wrong])
    with pytest.raises(DataError, match=f"{mask_path} contains class id {wrong}, but {known}"):
        open_data(f"{kind}:{tmp_path}", "val")[0]


def test_damaged(tmp_path):
    with pytest.raises(
        DataError,
        match=r"lacks the folders JPEGImages/ and annotations_detectron2/val/, nor images/",
    ):
        open_data(f"pas-20:{tmp_path}", "val")
    path = pas_20(tmp_path)
    with pytest.raises(DataError, match=r"pas-20:.* with the part val only, not train"):
        open_data(f"pas-20:{tmp_path}", "train")
    picture(tmp_path / "JPEGImages" / "2007_000033.jpg", 4)
    with pytest.raises(DataError, match=r"2007_000033\.png is 3 × 2 pixels"):
        open_data(f"pas-20:{tmp_path}", "val")[0]
    (tmp_path / "JPEGImages" / "2007_000033.jpg").unlink()
    with pytest.raises(DataError, match=r"val/2007_000033\.png has no image .*2007_000033\.jpg"):
        open_data(f"pas-20:{tmp_path}", "val")
    path.unlink()
    with pytest.raises(DataError, match=r"annotations_detectron2/val contains no \.png file"):
        open_data(f"pas-20:{tmp_path}", "val")


def test_hidden_files_are_passed_over(tmp_path):
    path = pas_20(tmp_path)
    path.with_name("._2007_000033.png").write_bytes(b"a Mac was here")
    assert open_data(f"pas-20:{tmp_path}", "val").keys == ("2007_000033",)


# --- class lists ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size"),
    [("a-847", 847), ("a-150", 150), ("pc-459", 459), ("pc-59", 59), ("pas-20", 20)],
)
def test_class_lists_have_their_size_and_no_name_twice(name, size):
    names = class_list(name)
    assert len(names) == len(set(names)) == size
    assert all(text == " ".join(text.split()) for text in names)


def test_pascal_lists_agree():
    def plain(names: tuple[str, ...]) -> list[str]:
        return [{"table": "diningtable"}.get(n, n).replace(" ", "") for n in names]

    assert plain(class_list("pc-59")) == plain(CONTEXT_NAMES)
    assert plain(class_list("pas-20")) == plain(VOC_NAMES)
    assert class_list("pas-20b")[:20] == class_list("pas-20")
    assert sorted(class_list("pas-20b")) == sorted(class_list("pc-59"))
    # Both number PASCAL-Context's labels in ascending order, so the 59 are a part in order.
    all_of_them = plain(class_list("pc-459"))
    common = [name for name in all_of_them if name in plain(class_list("pc-59"))]
    assert common == plain(class_list("pc-59"))
