"""Data sets on disk: small made trees, and the real photographs where they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsam.data.readers import (
    CachedData,
    CocoPanopticData,
    ConcatData,
    DataError,
    FolderData,
    SubsetData,
    connected_segments,
    open_data,
    plain_coco_name,
    shrink,
)
from clipsam.data.samples import BACKGROUND, VOID, LabelledImage
from clipsam.data.synthetic import SceneData

IMAGE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
IDS = np.array(
    [
        [0, 0, 1, 1, 2, 2],
        [0, 0, 1, 1, 2, 2],
        [3, 3, 3, 3, 3, 255],
        [1, 0, 0, 0, 0, 255],
    ]
)


def make_folder(root: Path, names: object = ("background", "cat", "unlabelled", "dog")) -> Path:
    (root / "images").mkdir()
    (root / "masks").mkdir()
    Image.fromarray(IMAGE).save(root / "images" / "a.png")
    Image.fromarray(IDS.astype(np.uint8)).save(root / "masks" / "a.png")
    (root / "classes.json").write_text(json.dumps(names))
    return root


def test_folder(tmp_path):
    data = FolderData(make_folder(tmp_path))
    assert data.names == ("cat", "dog")
    assert len(data) == 1
    sample = data[0]
    assert sample.key == "a"
    assert sample.present() == [0, 1]
    np.testing.assert_array_equal(sample.image, IMAGE)
    expected = np.select(
        [IDS == 0, IDS == 1, IDS == 3, IDS == 2], [BACKGROUND, 0, 1, VOID], default=VOID
    )
    np.testing.assert_array_equal(sample.classes, expected)
    # Two separate cats, one dog.
    assert len(np.unique(sample.segments)) == 4
    np.testing.assert_array_equal(sample.segments > 0, expected >= 0)


def test_folder_may_list_its_classes_one_above(tmp_path):
    (tmp_path / "train").mkdir()
    make_folder(tmp_path / "train")
    (tmp_path / "train" / "classes.json").rename(tmp_path / "classes.json")
    assert len(FolderData(tmp_path / "train")) == 1


def test_folder_with_many_classes(tmp_path):
    names = [f"class {i}" for i in range(400)]
    folder = make_folder(tmp_path, names)
    ids = np.array([[0, 254], [256, 399]], np.uint16)
    Image.fromarray(ids).save(folder / "masks" / "a.png")
    Image.fromarray(IMAGE[:2, :2]).save(folder / "images" / "a.png")
    np.testing.assert_array_equal(FolderData(folder)[0].classes, ids)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda root: (root / "masks" / "a.png").unlink(), "masks/a.png"),
        (lambda root: (root / "classes.json").unlink(), "classes.json"),
        (lambda root: (root / "classes.json").write_text("[1, "), "classes.json"),
        (lambda root: (root / "classes.json").write_text('{"cat": 1}'), "classes.json"),
        (lambda root: (root / "images").rename(root / "pictures"), "images/"),
        (lambda root: (root / "classes.json").write_text('["cat", "dog"]'), "masks/a.png"),
    ],
    ids=["no mask", "not a list", "no JSON", "no names", "no images", "id outside the list"],
)
def test_damaged_folder(tmp_path, damage, named):
    damage(make_folder(tmp_path))
    with pytest.raises(DataError, match=named):
        FolderData(tmp_path)[0]


def test_folder_mask_of_another_size(tmp_path):
    folder = make_folder(tmp_path)
    Image.fromarray(np.zeros((3, 5), np.uint8)).save(folder / "masks" / "a.png")
    with pytest.raises(DataError, match=r"masks/a\.png is 5 × 3 .*images/a\.png is 6 × 4"):
        FolderData(folder)[0]


def test_folder_unreadable_image_is_named_with_its_folder(tmp_path):
    folder = make_folder(tmp_path)
    (folder / "images" / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"images/a\.png: a\.png is not a supported image"):
        FolderData(folder)[0]


def test_folder_two_images_of_one_stem(tmp_path):
    folder = make_folder(tmp_path)
    Image.fromarray(IMAGE).save(folder / "images" / "a.jpg")
    with pytest.raises(DataError, match="more than one image a,"):
        FolderData(folder)


def make_coco(root: Path) -> Path:
    for folder in ("annotations/panoptic_val2017", "val2017"):
        (root / folder).mkdir(parents=True)
    Image.fromarray(IMAGE).save(root / "val2017" / "000007.png")
    numbers = np.where(IDS == 1, 70_000, np.where(IDS == 3, 300, 0))
    colours = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=2)
    Image.fromarray(colours.astype(np.uint8)).save(
        root / "annotations" / "panoptic_val2017" / "000007.png"
    )
    listing = {
        "categories": [{"id": 90, "name": "sky-other-merged"}, {"id": 3, "name": "cat"}],
        "images": [{"id": 7, "file_name": "000007.png"}],
        "annotations": [
            {
                "image_id": 7,
                "file_name": "000007.png",
                "segments_info": [
                    {"id": 300, "category_id": 3},
                    {"id": 70_000, "category_id": 90},
                ],
            }
        ],
    }
    (root / "annotations" / "panoptic_val2017.json").write_text(json.dumps(listing))
    return root


def test_coco(tmp_path):
    data = CocoPanopticData(make_coco(tmp_path), "val2017")
    assert data.names == ("cat", "sky")
    sample = data[0]
    assert sample.key == "000007"
    np.testing.assert_array_equal(
        sample.classes, np.select([IDS == 3, IDS == 1], [0, 1], default=VOID)
    )
    np.testing.assert_array_equal(sample.segments, np.select([IDS == 3, IDS == 1], [1, 2]))
    with pytest.raises(DataError, match=r"panoptic_train2017\.json"):
        CocoPanopticData(tmp_path, "train2017")


def test_coco_damaged(tmp_path):
    listing = make_coco(tmp_path) / "annotations" / "panoptic_val2017.json"
    Image.fromarray(IMAGE[:3]).save(tmp_path / "val2017" / "000007.png")
    with pytest.raises(DataError, match=r"panoptic_val2017/000007\.png is 6 × 4 .* is 6 × 3"):
        CocoPanopticData(tmp_path, "val2017")[0]
    sound = listing.read_text()
    listing.write_text(sound.replace('"category_id": 3', '"category_id": 4'))
    with pytest.raises(DataError, match="category 4"):
        CocoPanopticData(tmp_path, "val2017")[0]
    listing.write_text(sound.replace('"image_id": 7', '"image_id": 8'))
    data = CocoPanopticData(tmp_path, "val2017")
    assert len(data) == 0
    assert "annotation number 1 of an image that is not listed, such as 8" in data.notes[0]
    listing.write_text("[]")
    with pytest.raises(DataError, match="images, annotations, categories"):
        CocoPanopticData(tmp_path, "val2017")


@pytest.mark.parametrize(
    ("official", "plain"),
    [
        ("wall-other-merged", "wall"),
        ("mirror-stuff", "mirror"),
        ("playing field", "playing field"),
        ("window-blind", "window blind"),
        ("food-other-merged", "food"),
    ],
)
def test_plain_coco_name(official, plain):
    assert plain_coco_name(official) == plain


def test_connected_segments():
    classes = np.array([[0, 0, 1, 0], [VOID, 1, 1, BACKGROUND], [0, VOID, 1, 0]])
    segments = connected_segments(classes)
    np.testing.assert_array_equal(segments > 0, classes >= 0)
    parts = [{(0, 0), (0, 1)}, {(0, 3)}, {(2, 0)}, {(2, 3)}, {(0, 2), (1, 1), (1, 2), (2, 2)}]
    found = [set(zip(*np.nonzero(segments == n), strict=True)) for n in range(1, 6)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, parts))


def test_shrink_keeps_labels_aligned():
    classes = np.zeros((40, 80), np.int16)
    classes[8:32, 20:60] = 1
    image = np.where(classes[..., None] == 1, 255, 0).repeat(3, axis=2).astype(np.uint8)
    sample = LabelledImage("a", image, classes, classes.astype(np.int32), ("sky", "cat"))
    small = shrink(sample, 20)
    assert small.image.shape == (10, 20, 3)
    np.testing.assert_array_equal(small.image[..., 0] > 127, small.classes == 1)
    np.testing.assert_array_equal(small.segments, small.classes)
    assert (small.classes.dtype, small.segments.dtype) == (np.int16, np.int32)
    assert shrink(sample, 80) is sample


def test_cache_reads_each_image_once(tmp_path):
    folder = make_folder(tmp_path)
    data = CachedData(FolderData(folder), side=3)
    first = data[0]
    (folder / "images" / "a.png").unlink()
    assert data[0] is first
    assert first.classes.shape == (2, 3)


class Numbered:
    """Three images of one pixel, whose class is their number."""

    names = ("cat", "dog", "cow")
    keys = ("one", "two", "three")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> LabelledImage:
        classes = np.array([[index, VOID, BACKGROUND]], np.int16)
        segments = np.array([[1, 0, 0]], np.int32)
        image = np.zeros((1, 3, 3), np.uint8)
        return LabelledImage(self.keys[index], image, classes, segments, self.names)


def test_concat(tmp_path):
    data = ConcatData({"folder": FolderData(make_folder(tmp_path)), "more": Numbered()})
    assert data.names == ("cat", "dog", "cat", "dog", "cow")
    assert data.keys == ("folder/a", "more/one", "more/two", "more/three")
    assert [sample.key for sample in data] == list(data.keys)
    assert [sample.present() for sample in data] == [[0, 1], [2], [3], [4]]
    assert all(sample.names == data.names for sample in data)
    assert data[3].classes.tolist() == [[4, VOID, BACKGROUND]]
    assert data[3].classes.dtype == np.int16


def test_wrappers_keep_keys_and_images_together():
    part = SubsetData(Numbered(), (2, 0))
    assert part.keys == ("three", "one")
    assert [sample.present() for sample in (part[0], part[1])] == [[2], [0]]
    assert len(part) == 2
    assert CachedData(part, 8).keys == part.keys


def test_open_folder(tmp_path):
    make_folder(tmp_path)
    assert open_data(f"folder:{tmp_path}", "val").keys == ("a",)
    (tmp_path / "val").mkdir()
    make_folder(tmp_path / "val", ["background", "tree", "unlabelled", "dog"])
    assert open_data(f"folder:{tmp_path}", "val").names == ("tree", "dog")
    assert open_data(f"folder:{tmp_path}", "train").names == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "seed", "pairs", "mode"),
    [
        ("7", 20, "seen", "plain"),
        ("7-unseen", 20, "unseen", "plain"),
        ("7-camouflage", 20, "seen", "camouflage"),
    ],
)
def test_open_scenes(text, seed, pairs, mode):
    assert open_data(f"scenes:{text}", "train") == SceneData(7, seed, pairs, mode)
    assert open_data(f"scenes:{text}", "val") == SceneData(7, 1_000_003, pairs, mode)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("cityscapes:/tmp", "one of folder, .*coco-panoptic, .*, scenes"),
        ("/tmp", "KIND:PATH"),
        ("folder:", "KIND:PATH"),
        ("folder:{root}/nowhere", "nowhere"),
        ("folder:{root}", r"train/images nor .*/images"),
        ("coco-panoptic:{root}", r"annotations/panoptic_train2017\.json"),
        ("coco-instances:{root}", r"annotations/instances_train2017\.json"),
        ("coco-stuff:{root}", r"labels\.txt"),
        ("voc:{root}", r"ImageSets/Segmentation/train\.txt"),
        ("pascal-context:{root}", r"labels\.txt"),
        ("ade20k:{root}", r"objectInfo150\.txt"),
        ("camouflage:{root}", r"Train/Image, Images/Train, Image, Imgs"),
        ("scenes:0", "scenes:N"),
        ("scenes:5-dark", "scenes:N-camouflage"),
    ],
)
def test_open_says_what_is_wrong(tmp_path, spec, named):
    with pytest.raises(DataError, match=named):
        open_data(spec.format(root=tmp_path), "train")


@pytest.mark.parametrize(
    ("folder", "counts", "classes"), [("camvid", (367, 101), 11), ("ccp", (480, 120), 58)]
)
def test_real_folders(photographs, folder, counts, classes):
    for part, count in zip(("train", "val"), counts, strict=True):
        data = open_data(f"folder:{photographs / folder}", part)
        assert len(data) == count
        assert len(set(data.names)) == len(data.names) == classes
        assert len(set(data.keys)) == count
        sample = data[count // 2]
        assert sample.present()
        assert sample.key == data.keys[count // 2]


@pytest.mark.parametrize("part", ["train2017", "val2017"])
def test_real_coco(photographs, part):
    data = open_data(f"coco-panoptic:{photographs / 'coco100'}", part.removesuffix("2017"))
    assert len(data) == 100
    assert sorted(data.keys) == sorted(p.stem for p in (photographs / "coco100" / part).iterdir())
    assert len(set(data.names)) == 133
    sample = data[3]
    listing = json.loads(
        (photographs / "coco100" / "annotations" / f"panoptic_{part}.json").read_text()
    )
    areas = [segment["area"] for segment in listing["annotations"][3]["segments_info"]]
    assert np.bincount(sample.segments.ravel())[1:].tolist() == areas
