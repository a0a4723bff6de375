"""The published data sets, each as a tiny tree in its published layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.io import savemat

from clipsam.data.readers import DataError, open_data
from clipsam.data.readers.coco import draw_shape
from clipsam.data.samples import BACKGROUND, VOID

SIZE = (4, 6)


def picture(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def mask(path: Path, rows: list[list[int]], palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(rows, np.uint8))
    if palette:
        image = image.convert("P")
        image.putdata(np.array(rows).ravel().tolist())
        image.putpalette([value * 7 % 256 for value in range(768)])
    image.save(path)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def expect(classes: np.ndarray, rows: list[list[int]]) -> None:
    np.testing.assert_array_equal(classes, rows)
    assert classes.dtype == np.int16


B, V = BACKGROUND, VOID


# --- COCO instances -------------------------------------------------------------------------


def instances(root: Path, annotations: list[dict]) -> Path:
    picture(root / "val2017" / "000000000007.jpg")
    picture(root / "val2017" / "000000000009.jpg")
    path = root / "annotations" / "instances_val2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [
        {"id": number, "file_name": f"{number:012d}.jpg", "height": 4, "width": 6}
        for number in (9, 7)
    ]
    categories = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}]
    numbered = [{"id": i, "image_id": 7, "iscrowd": 0} | a for i, a in enumerate(annotations)]
    content = {"images": images, "annotations": numbered, "categories": categories}
    path.write_text(json.dumps(content))
    return root


def box(left: int, top: int, right: int, bottom: int) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def test_coco_instances(tmp_path):
    annotations = [
        # Listed first, but the smaller one: it lies on top.
        {"category_id": 90, "segmentation": [box(1, 1, 2, 3)]},
        {"category_id": 1, "segmentation": [box(0, 0, 3, 4)]},
        # Run lengths go down the columns: the last two columns, less the lowest two pixels.
        {"category_id": 1, "iscrowd": 1, "segmentation": {"size": [4, 6], "counts": [16, 2, 2, 4]}},
    ]
    data = open_data(f"coco-instances:{instances(tmp_path, annotations)}", "val")
    assert data.names == ("person", "toothbrush")
    assert data.keys == ("000000000009", "000000000007")
    sample = data[1]
    expect(
        sample.classes,
        [
            [0, 0, 0, B, V, V],
            [0, 1, 0, B, V, V],
            [0, 1, 0, B, B, V],
            [0, 0, 0, B, B, V],
        ],
    )
    assert sample.segments[0, 0] == 1
    assert sample.segments[1, 1] == 2
    assert sample.segments[0, 4] == 0
    expect(data[0].classes, [[B] * 6] * 4)
    assert data[0].present() == []


def test_coco_compressed_run_lengths_and_objects_over_a_crowd(tmp_path):
    annotations = [
        {"category_id": 90, "segmentation": [box(2, 0, 3, 4)]},
        # COCO's compression: a count below 16 is the character 48 places on, and from the fourth
        # count on it is the difference to the count two before. This is 4, 8, 4, 8.
        {"category_id": 1, "iscrowd": 1, "segmentation": {"size": [4, 6], "counts": "4840"}},
    ]
    sample = open_data(f"coco-instances:{instances(tmp_path, annotations)}", "val")[1]
    expect(sample.classes, [[B, V, 1, B, V, V]] * 4)


@pytest.mark.parametrize(
    ("annotation", "named"),
    [
        ({"category_id": 1, "segmentation": {"size": [4, 6]}}, "annotation 0 is neither polygons"),
        ({"category_id": 1, "segmentation": 3}, "annotation 0 is neither polygons"),
        (
            {"category_id": 1, "segmentation": {"size": [4, 5], "counts": [20]}},
            "annotation 0 is 5 × 4 pixels, but its image is 6 × 4",
        ),
        ({"category_id": 5, "segmentation": [box(0, 0, 2, 2)]}, "category 5"),
        (
            {"category_id": 1, "segmentation": {"size": [4, 6], "counts": [20]}},
            r"annotation 0 is damaged: its run lengths must add up to 6 × 4 pixels",
        ),
        (
            {"category_id": 1, "segmentation": {"size": [4, 6], "counts": "48"}},
            r"annotation 0 is damaged: its run lengths must add up to 6 × 4 pixels",
        ),
        ({"category_id": 1, "segmentation": [["a"] * 6]}, "annotation 0 is neither polygons"),
        ({"category_id": 1, "segmentation": [[0, 0, 9e9, 0, 1, 1]]}, "extends far beyond"),
        ({"category_id": 1, "image_id": [7]}, "the image_id of entry 0 in annotations"),
    ],
)
def test_coco_instances_damaged(tmp_path, annotation, named):
    instances(tmp_path, [annotation])
    with pytest.raises(DataError, match=rf"instances_val2017\.json.*{named}"):
        open_data(f"coco-instances:{tmp_path}", "val")[1]


def test_coco_instances_image_of_another_size(tmp_path):
    instances(tmp_path, [])
    picture(tmp_path / "val2017" / "000000000007.jpg", (5, 6))
    with pytest.raises(DataError, match=r"instances_val2017\.json is 6 × 4 .*07\.jpg is 6 × 5"):
        open_data(f"coco-instances:{tmp_path}", "val")[1]


def test_coco_polygons_of_two_points_enclose_nothing(tmp_path):
    instances(tmp_path, [{"category_id": 1, "segmentation": [[0, 0, 3, 3]]}])
    assert open_data(f"coco-instances:{tmp_path}", "val")[1].present() == []


SQUARE = [[B] * 6, [B, 0, 0, B, B, B], [B, 0, 0, B, B, B], [B] * 6]
"""Pixels of ``box(1, 1, 3, 3)``."""


@pytest.mark.parametrize(
    "shape",
    [
        [box(1, 1, 3, 3)],
        box(1, 1, 3, 3),
        [[1, 1], [3, 1], [3, 3], [1, 3]],
        [[[1, 1], [3, 1], [3, 3], [1, 3]]],
        {"size": [4.0, 6.0], "counts": [5.0, 2, 2, 2, 13]},
    ],
)
def test_shapes_as_exporters_write_them(tmp_path, shape):
    instances(tmp_path, [{"category_id": "1", "image_id": 7.0, "segmentation": shape}])
    path = tmp_path / "annotations" / "instances_val2017.json"
    content = path.read_text().replace('"height": 4', '"height": 4.0')
    content = content.replace('"000000000007.jpg"', r'".\\000000000007.jpg"')
    path.write_text(content, encoding="utf-8-sig")
    data = open_data(f"coco-instances:{tmp_path}", "val")
    expect(data[1].classes, SQUARE)
    assert data.keys[1] == "000000000007"
    assert data.notes == ()


@pytest.mark.parametrize("shape", [{"segmentation": []}, {"segmentation": None}, {}])
def test_a_box_without_a_shape_is_left_out_aloud(tmp_path, shape):
    boxed = {"category_id": 90, "bbox": [4, 0, 2, 2]} | shape
    whole = {"category_id": 1, "segmentation": [box(1, 1, 3, 3)]}
    data = open_data(f"coco-instances:{instances(tmp_path, [whole, boxed])}", "val")
    (note,) = data.notes
    assert "left out annotation 1 without a shape" in note
    right = np.array(SQUARE)
    right[:2, 4:] = V  # What the box holds is not known, so it is not scored.
    expect(data[1].classes, right.tolist())


def test_an_annotation_of_an_unlisted_image_is_left_out_aloud(tmp_path):
    whole = {"category_id": 1, "segmentation": [box(1, 1, 3, 3)]}
    listed = instances(tmp_path, [whole, whole | {"image_id": 99}])
    data = open_data(f"coco-instances:{listed}", "val")
    assert data.notes[0].endswith("annotation 1 of an image that is not listed, such as 99.")
    expect(data[1].classes, SQUARE)


def test_categories_of_one_name_are_one_class_and_special_ones_none(tmp_path):
    shapes = [[box(0, 0, 1, 4)], [box(1, 0, 2, 4)], [box(2, 0, 3, 4)], [box(3, 0, 4, 4)]]
    annotations = [
        {"category_id": number, "segmentation": shape} for number, shape in enumerate(shapes)
    ]
    path = instances(tmp_path, annotations) / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    names = ("person", "Background", "Person ", "ignore")
    content["categories"] = [{"id": i, "name": name} for i, name in enumerate(names)]
    path.write_text(json.dumps(content))
    data = open_data(f"coco-instances:{tmp_path}", "val")
    assert data.names == ("person",)
    expect(data[1].classes, [[0, B, 0, V, B, B]] * 4)
    content["categories"].append({"id": 1, "name": "dog"})
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="lists the id 1 twice in categories"):
        open_data(f"coco-instances:{tmp_path}", "val")


def test_coco_compression_is_read_as_pycocotools_reads_it():
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        inside = rng.random((37, 53)) < share
        text = coco_mask.encode(np.asfortranarray(inside, np.uint8))["counts"].decode()
        drawn = draw_shape({"size": [37, 53], "counts": text}, (37, 53), "here")
        np.testing.assert_array_equal(drawn, inside)


# --- COCO-Stuff -----------------------------------------------------------------------------


def stuff(root: Path) -> Path:
    # Lines of the published list: "hat" is one of the eleven that no pixel carries.
    text(
        root / "labels.txt",
        "0: unlabeled",
        "1: person",
        "26: hat",
        "27: backpack",
        "157: sky-other",
    )
    picture(root / "train2017" / "000000000009.jpg")
    rows = [[0] * 6, [26] * 6, [156] * 6, [255] * 6]
    mask(root / "stuffthingmaps" / "train2017" / "000000000009.png", rows)
    return root


def test_coco_stuff(tmp_path):
    data = open_data(f"coco-stuff:{stuff(tmp_path)}", "train")
    assert data.names == ("person", "backpack", "sky")
    assert data.keys == ("000000000009",)
    expect(data[0].classes, [[0] * 6, [1] * 6, [2] * 6, [V] * 6])


def test_coco_stuff_damaged(tmp_path):
    stuff(tmp_path)
    path = tmp_path / "stuffthingmaps" / "train2017" / "000000000009.png"
    mask(path, [[25] * 6] * 4)
    with pytest.raises(DataError, match=r"000000000009\.png contains class id 25, .*labels\.txt"):
        open_data(f"coco-stuff:{tmp_path}", "train")[0]
    path.unlink()
    with pytest.raises(DataError, match=r"000000000009\.jpg has no mask"):
        open_data(f"coco-stuff:{tmp_path}", "train")
    text(tmp_path / "labels.txt", "person")
    with pytest.raises(DataError, match="the line 'person'"):
        open_data(f"coco-stuff:{tmp_path}", "train")


# --- PASCAL VOC, SBD, PASCAL-Context --------------------------------------------------------

VOC_ROWS = [[0, 0, 1, 1, 255, 20]] * 4
VOC_CLASSES = [[B, B, 0, 0, V, 19]] * 4


def voc(root: Path) -> Path:
    for part, stem in (("train", "2007_000032"), ("val", "2007_000033")):
        text(root / "ImageSets" / "Segmentation" / f"{part}.txt", stem)
        picture(root / "JPEGImages" / f"{stem}.jpg")
        mask(root / "SegmentationClass" / f"{stem}.png", VOC_ROWS, palette=True)
    picture(root / "JPEGImages" / "2008_000001.jpg")
    return root


def test_voc(tmp_path):
    voc(tmp_path)
    data = open_data(f"voc:{tmp_path}", "train")
    assert len(data.names) == 20
    assert (data.names[0], data.names[14], data.names[19]) == ("aeroplane", "person", "tv monitor")
    assert data.keys == ("2007_000032",)
    assert open_data(f"voc:{tmp_path}", "val").keys == ("2007_000033",)
    expect(data[0].classes, VOC_CLASSES)


def test_voc_missing_file(tmp_path):
    voc(tmp_path)
    path = tmp_path / "SegmentationClass" / "2007_000032.png"
    path.unlink()
    with pytest.raises(DataError, match=f"{path} does not exist"):
        open_data(f"voc:{tmp_path}", "train")
    with pytest.raises(DataError, match=r"SegmentationClassAug or .*benchmark_RELEASE"):
        open_data(f"voc:{tmp_path}", "trainaug")


def test_voc_trainaug_of_one_folder(tmp_path):
    voc(tmp_path)
    lists = tmp_path / "ImageSets" / "Segmentation"
    text(
        lists / "trainaug.txt",
        "/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png",
        "2008_000001",
    )
    for stem in ("2007_000032", "2008_000001"):
        mask(tmp_path / "SegmentationClassAug" / f"{stem}.png", VOC_ROWS)
    data = open_data(f"voc:{tmp_path}", "trainaug")
    assert data.keys == ("2007_000032", "2008_000001")
    expect(data[1].classes, VOC_CLASSES)


def test_voc_trainaug_of_sbd(tmp_path):
    sbd = voc(tmp_path) / "benchmark_RELEASE" / "dataset"
    # SBD's own lists overlap VOC's: its copies of VOC's train and val are not used.
    text(sbd / "train.txt", "2008_000001", "2007_000032")
    text(sbd / "val.txt", "2007_000033", "2008_000002")
    (sbd / "cls").mkdir()
    for stem in ("2008_000001", "2008_000002"):
        picture(sbd / "img" / f"{stem}.jpg")
        rows = np.array([[0, 0, 5, 5, 5, 20]] * 4, np.uint8)
        savemat(
            sbd / "cls" / f"{stem}.mat", {"GTcls": {"Segmentation": rows, "CategoriesPresent": 5}}
        )
    data = open_data(f"voc:{tmp_path}", "trainaug")
    assert data.keys == ("2007_000032", "2008_000001", "2008_000002")
    expect(data[0].classes, VOC_CLASSES)
    expect(data[2].classes, [[B, B, 4, 4, 4, 19]] * 4)
    (sbd / "cls" / "2008_000001.mat").write_bytes(b"no matrix")
    with pytest.raises(DataError, match=r"2008_000001\.mat has no readable .*GTcls"):
        data[1]


# mmsegmentation's table of the 59 classes among the 459 ids, in the order of the class names.
CONTEXT_IDS = [
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98),
    *(104, 105, 113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295),
    *(296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440),
    *(445, 454, 458),
]
# The same 59 in the spelling of PASCAL-Context's labels.txt.
CONTEXT_LABELS = """
aeroplane bag bed bedclothes bench bicycle bird boat book bottle building bus cabinet car cat
ceiling chair cloth computer cow cup curtain dog door fence floor flower food grass ground horse
keyboard light motorbike mountain mouse person plate platform pottedplant road rock sheep shelves
sidewalk sign sky snow sofa table track train tree truck tvmonitor wall water window wood
"""


def context(root: Path) -> Path:
    name_of = dict(zip(CONTEXT_IDS, CONTEXT_LABELS.split(), strict=True))
    text(root / "labels.txt", *(f"{i}: {name_of.get(i, f'rare {i}')}" for i in range(1, 460)))
    text(root / "ImageSets" / "Main" / "train.txt", "2008_000002")
    picture(root / "JPEGImages" / "2008_000002.jpg")
    rows = np.array([[2, 1, 0, 427, 308, 459]] * 4, np.uint16)
    (root / "trainval").mkdir()
    savemat(root / "trainval" / "2008_000002.mat", {"LabelMap": rows})
    return root


def test_pascal_context(tmp_path):
    data = open_data(f"pascal-context:{context(tmp_path)}", "train")
    assert len(data.names) == 59
    assert data.keys == ("2008_000002",)
    names = ["aeroplane", None, None, "tv monitor", "potted plant", None]
    values = [V if name is None else data.names.index(name) for name in names]
    expect(data[0].classes, [values] * 4)
    # mmsegmentation numbers the classes in the order of their ids.
    assert values[3] == CONTEXT_IDS.index(427)


def test_pascal_context_damaged(tmp_path):
    context(tmp_path)
    path = tmp_path / "trainval" / "2008_000002.mat"
    savemat(path, {"LabelMap": np.full((4, 6), 460, np.uint16)})
    with pytest.raises(DataError, match=r"2008_000002\.mat contains class id 460"):
        open_data(f"pascal-context:{tmp_path}", "train")[0]
    savemat(path, {"Map": np.zeros((4, 6), np.uint16)})
    with pytest.raises(DataError, match=r"no readable MATLAB field LabelMap"):
        open_data(f"pascal-context:{tmp_path}", "train")[0]
    with pytest.raises(DataError, match=r"SegmentationContext/val\.txt nor .*Main/val\.txt"):
        open_data(f"pascal-context:{tmp_path}", "val")
    text(tmp_path / "labels.txt", "1: accordion", "2: aeroplane")
    with pytest.raises(DataError, match=r"labels\.txt lacks the label bag"):
        open_data(f"pascal-context:{tmp_path}", "train")


# --- ADE20K ---------------------------------------------------------------------------------


def ade20k(root: Path) -> Path:
    rows = [f"{i}\t0.1\t10\t1\tthing {i}" for i in range(1, 151)]
    # As published: synonyms, blanks at the end of a name and behind a number.
    rows[1] = "2\t0.1072\t6046\t612\tbuilding, edifice"
    rows[7] = "8\t0.0231\t1906\t199\tbed "
    rows[21] = "22 \t0.0074\t709\t75\twater"
    text(root / "objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tName", *rows)
    for folder, stem in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        picture(root / "images" / folder / f"{stem}.jpg")
        mask(root / "annotations" / folder / f"{stem}.png", [[0, 1, 2, 8, 22, 150]] * 4)
    return root


def test_ade20k(tmp_path):
    data = open_data(f"ade20k:{ade20k(tmp_path)}", "train")
    assert data.keys == ("ADE_train_00000001",)
    assert open_data(f"ade20k:{tmp_path}", "val").keys == ("ADE_val_00000001",)
    assert len(data.names) == 150
    assert [data.names[i] for i in (1, 7, 21)] == ["building", "bed", "water"]
    expect(data[0].classes, [[V, 0, 1, 7, 21, 149]] * 4)


def test_ade20k_damaged(tmp_path):
    ade20k(tmp_path)
    mask(tmp_path / "annotations" / "training" / "ADE_train_00000001.png", [[151] * 6] * 4)
    with pytest.raises(DataError, match=r"ADE_train_00000001\.png contains class id 151"):
        open_data(f"ade20k:{tmp_path}", "train")[0]
    text(tmp_path / "objectInfo150.txt", "Idx\tName", "1\twall")
    with pytest.raises(DataError, match=r"objectInfo150\.txt is not ADE20K's table"):
        open_data(f"ade20k:{tmp_path}", "train")
    text(tmp_path / "objectInfo150.txt")
    with pytest.raises(DataError, match=r"objectInfo150\.txt is not ADE20K's table"):
        open_data(f"ade20k:{tmp_path}", "train")


# --- camouflage -----------------------------------------------------------------------------

# Edges of published masks are not always pure black and white.
SOFT = [[0, 127, 128, 255, 0, 0]] * 4
CRAB, BATFISH = "COD10K-CAM-1-Aquatic-3-Crab-32", "COD10K-CAM-1-Aquatic-1-BatFish-2"
NON_CAMOUFLAGED = "COD10K-NonCAM-5-Background-5-Vegetation-4854"


def test_cod10k(tmp_path):
    for stem in (CRAB, BATFISH, NON_CAMOUFLAGED):
        picture(tmp_path / "Test" / "Image" / f"{stem}.jpg")
    for stem in (CRAB, BATFISH):
        mask(tmp_path / "Test" / "GT_Object" / f"{stem}.png", SOFT)
    data = open_data(f"camouflage:{tmp_path}", "val")
    assert data.keys == open_data(f"camouflage:{tmp_path}", "test").keys == (BATFISH, CRAB)
    assert data.names == ("bat fish", "crab")
    expect(data[0].classes, [[B, B, 0, 0, B, B]] * 4)
    expect(data[1].classes, [[B, B, 1, 1, B, B]] * 4)


@pytest.mark.parametrize(
    ("images", "masks"),
    [("Images/Train", "GT"), ("Image", "GT"), ("Imgs", "GT")],
    ids=["CAMO", "CHAMELEON", "packed"],
)
def test_other_camouflage(tmp_path, images, masks):
    stems = ("camourflage_00012", "COD10K-CAM-5-Other-69-Other-5066")
    for stem in stems:
        picture(tmp_path / images / f"{stem}.jpg")
        mask(tmp_path / masks / f"{stem}.png", SOFT)
    # A mask of another image: CAMO keeps those of both parts in one folder.
    mask(tmp_path / masks / "camourflage_00099.png", SOFT)
    data = open_data(f"camouflage:{tmp_path}", "train")
    assert set(data.keys) == set(stems)
    assert data.names == ("camouflaged object",)
    expect(data[0].classes, [[B, B, 0, 0, B, B]] * 4)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("animal-1", "camouflaged animal"),  # CHAMELEON, all of it animals
        ("camourflage_00012", "camouflaged object"),
        ("COD10K-CAM-5-Other-69-Other-5066", "camouflaged object"),
        ("COD10K-CAM-2-Terrestrial-45-Other-2798", "camouflaged animal"),
        ("COD10K-CAM-3-Flying-55-Butterfly-3266", "butterfly"),
        ("COD10K-CAM-1-Aquatic-6-Flounder-260", "flounder"),
        ("COD10K-CAM-1-Aquatic-10-LeafySeaDragon-474", "leafy sea dragon"),
    ],
)
def test_camouflage_is_worded_as_the_authors_do(tmp_path, stem, name):
    picture(tmp_path / "Imgs" / f"{stem}.jpg")
    mask(tmp_path / "GT" / f"{stem}.png", SOFT)
    assert open_data(f"camouflage:{tmp_path}", "val").names == (name,)


def test_camouflage_mask_of_one_bit(tmp_path):
    picture(tmp_path / "Imgs" / "animal-1.jpg")
    (tmp_path / "GT").mkdir()
    rows = np.array([[0, 0, 255, 255, 0, 0]] * 4, np.uint8)
    Image.fromarray(rows).convert("1").save(tmp_path / "GT" / "animal-1.png")
    expect(open_data(f"camouflage:{tmp_path}", "val")[0].classes, [[B, B, 0, 0, B, B]] * 4)


def test_camouflage_mask_of_another_size(tmp_path):
    picture(tmp_path / "Imgs" / "animal-1.jpg")
    mask(tmp_path / "GT" / "animal-1.png", [[255] * 5] * 4)
    with pytest.raises(DataError, match=r"GT/animal-1\.png is 5 × 4 .*Imgs/animal-1\.jpg is 6 × 4"):
        open_data(f"camouflage:{tmp_path}", "val")[0]
