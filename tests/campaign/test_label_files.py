"""Hundreds of odd label files, drawn from seeds: each is read right, or refused in one sentence."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image, ImageFilter

from clipsam.data.images import load_image, load_mask
from clipsam.data.label_values import LabelNames
from clipsam.data.labelled import read_upload
from clipsam.data.readers import open_data
from clipsam.data.samples import BACKGROUND, VOID
from clipsam.data.uploads import from_zip
from clipsam.evaluation.truth import match_truth, read_names
from clipsam.types import parse_classes, prompt_from_classes
from tests.campaign.checking import check_sentence, right_or_sentence

pytestmark = pytest.mark.campaign

SIZE = (48, 64)
NEARLY = 0.9
"""IoU of a binary mask that is read right; soft edges may move by half a pixel."""


def run(
    draw: Callable[[np.random.Generator, Path], Callable[[], None]], count: int, folder: Path
) -> None:
    """Try ``count`` cases, and tell all that went wrong by their seeds."""
    wrong = []
    for seed in range(count):
        place = folder / str(seed)
        place.mkdir()
        try:
            draw(np.random.default_rng(seed), place)()
        except Exception as error:
            wrong.append(f"seed {seed}: {type(error).__name__}: {error}")
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong[:20])


def blob(rng: np.random.Generator) -> np.ndarray:
    """A binary mask of one or two rectangles, bool."""
    mask = np.zeros(SIZE, bool)
    for _ in range(rng.integers(1, 3)):
        top, left = rng.integers(2, 20, 2)
        height, width = rng.integers(14, 24, 2)
        mask[top : top + height, left : left + width] = True
    return mask


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / max(1, (one | other).sum())


# ---- binary masks, however they are stored ----


WAYS = (
    *("plain", "one", "bits", "jpeg", "blur", "alpha", "rgb", "rgba", "16", "int32", "float"),
    *("shares", "palette", "again", "gif", "webp", "halved", "faint", "cmyk", "photo", "12"),
)


def store_binary(rng: np.random.Generator, mask: np.ndarray, folder: Path) -> tuple[Path, bool]:
    """Store a binary mask in one of many ways; returns whether it must be read."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    way = rng.choice(WAYS)
    path = folder / f"mask.{rng.choice(['png', 'PNG'])}"
    match way:
        case "plain":
            grey.save(path)
        case "one":
            Image.fromarray(mask.astype(np.uint8)).save(path)
        case "bits":
            Image.fromarray(mask).save(path)
        case "jpeg":
            path = folder / "mask.jpg"
            grey.convert(rng.choice(["L", "RGB"])).save(path, quality=int(rng.integers(20, 100)))
        case "blur":
            grey.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.6, 2)))).save(path)
        case "alpha":
            colour = tuple(int(value) for value in rng.integers(0, 256, 3))
            picture = Image.new("RGB", grey.size, colour)
            picture.putalpha(grey.filter(ImageFilter.GaussianBlur(float(rng.choice([0, 1])))))
            picture.save(path)
        case "rgb" | "rgba":
            grey.convert(way.upper()).save(path)
        case "16":
            Image.fromarray(mask.astype(np.uint16) * 65535).save(path)
        case "int32":
            path = folder / "mask.tif"
            Image.fromarray(mask.astype(np.int32) * 255).save(path)
        case "float":
            path = folder / "mask.tiff"
            Image.fromarray(mask.astype(np.float32) * int(rng.choice([1, 255]))).save(path)
        case "shares":
            path = folder / "mask.tif"
            soft = np.asarray(grey.filter(ImageFilter.GaussianBlur(1)), np.float32)
            Image.fromarray(soft / 255).save(path)
        case "palette":
            picture = Image.fromarray(mask.astype(np.uint8), "P")
            picture.putpalette(rng.integers(0, 256, 768).tolist())
            picture.save(path)
        case "again":
            # Above, a file of 0, 1 and 255 may come of it, which are ids.
            grey.save(folder / "first.jpg", quality=int(rng.integers(40, 90)))
            Image.open(folder / "first.jpg").save(path)
        case "gif":
            path = folder / "mask.gif"
            Image.fromarray(mask.astype(np.uint8) * 255).save(path)
        case "webp":
            path = folder / "mask.webp"
            grey.save(path, lossless=bool(rng.integers(2)), quality=80)
        case "halved":
            small = grey.resize((grey.width * 2, grey.height * 2), Image.Resampling.NEAREST)
            small.resize(grey.size, Image.Resampling.BICUBIC).save(path)
        case "faint":
            Image.fromarray(mask.astype(np.uint8) * 100).save(path)
            return path, False
        case "12":
            Image.fromarray(mask.astype(np.uint16) * 4095).save(path)
            return path, False
        case "cmyk":
            path = folder / "mask.jpg"
            grey.convert("CMYK").save(path)
            return path, False
        case "photo":
            noise = rng.integers(0, 256, (*SIZE, 3), np.uint8)
            picture = Image.fromarray(noise)
            picture.putalpha(grey)
            picture.save(path)
            return path, False
    return path, True


def binary_case(rng: np.random.Generator, folder: Path) -> Callable[[], None]:
    mask = blob(rng)
    path, must = store_binary(rng, mask, folder)
    names = [["person"], ["background", "Person"], ["BACKGROUND", "person", "void"]][
        rng.integers(3)
    ]
    prompt = prompt_from_classes([("person",)])
    typed = rng.choice([None, ", ".join(names), json.dumps(names)])

    def truth() -> np.ndarray:
        values = load_mask(path).values
        known = None if typed is None else read_names(str(typed))
        return match_truth(values, SIZE, prompt, known).masks["person"]

    def classes() -> np.ndarray:
        return LabelNames(names).read(load_mask(path).values, "a mask").values == 0

    def act() -> None:
        for read in (truth, classes):
            right_or_sentence(read, lambda found: iou(found, mask) >= NEARLY, may_refuse=not must)

    return act


def test_binary_masks(tmp_path: Path) -> None:
    run(binary_case, 150, tmp_path)


# ---- masks of ids ----


def id_case(rng: np.random.Generator, folder: Path) -> Callable[[], None]:
    count = int(rng.choice([2, 3, 7, 40, 200, 300]))
    names = ["background", *(f"class {number}" for number in range(1, count))]
    ids = rng.integers(0, count, (6, 8))
    ids[0, 0] = 1 if count < 255 else 299
    ids = np.kron(ids, np.ones((8, 8), np.int64))
    right = np.where(ids == 0, BACKGROUND, ids - 1)
    stranger = rng.random() < 0.25
    if rng.random() < 0.3 and not stranger:
        top = 255 if count < 255 else 65535
        ids[:8], right[:8] = top, VOID
        ids[40:, 8:16], right[40:, 8:16] = 1, 0  # One id at least, so that the top is void.
    if stranger:
        ids[8:16, 8:16] = count + int(rng.integers(0, 40))
    wide = ids.max() > 255
    kind = rng.choice(["grey", "palette", "rgb", "16", "32", "float"])
    path = folder / ("mask.tif" if kind in ("32", "float") else "mask.png")
    small = Image.fromarray(ids.astype(np.uint16 if wide else np.uint8))
    if kind == "palette" and not wide:
        small.putpalette(rng.integers(0, 256, 768).tolist())
    elif kind == "rgb" and not wide:
        small = small.convert("RGB")
    elif kind in ("16", "32", "float"):
        small = Image.fromarray(ids.astype({"16": "uint16", "32": "int32"}.get(kind, "float32")))
    small.save(path)

    def act() -> None:
        sentence = right_or_sentence(
            lambda: LabelNames(names).read(load_mask(path).values, "a mask").values,
            lambda found: not stranger and np.array_equal(found, right),
            may_refuse=stranger,
        )
        assert not stranger or f"the id {ids.max()}" in sentence

    return act


def test_masks_of_ids(tmp_path: Path) -> None:
    run(id_case, 80, tmp_path)


# ---- files that are damaged or something else ----


def damaged_case(rng: np.random.Generator, folder: Path) -> Callable[[], None]:
    path, _ = store_binary(rng, blob(rng), folder)
    content = bytearray(path.read_bytes())
    match rng.integers(5):
        case 0:
            content = content[: rng.integers(0, len(content))]
        case 1:
            for place in rng.integers(0, len(content), 12):
                content[place] = rng.integers(256)
        case 2:
            content = bytearray(rng.bytes(int(rng.integers(0, 400))))
        case 3:
            content = content[:40] + rng.bytes(200) + content[40:]
        case 4:
            content = bytearray(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    path.write_bytes(bytes(content))

    def act() -> None:
        for load in (load_mask, load_image):
            right_or_sentence(lambda load=load: load(path).values, lambda values: values.ndim >= 2)

    return act


def test_damaged_files(tmp_path: Path) -> None:
    run(damaged_case, 60, tmp_path)


# ---- COCO JSON ----


@dataclass
class Coco:
    """A COCO JSON with what it shows; mutations that lose something set ``exact`` to false."""

    content: dict[str, Any]
    right: np.ndarray
    exact: bool = True
    encoding: str = "utf-8"
    files: dict[str, str] = field(default_factory=lambda: {"images/a.png": "a.png"})


def some_coco(rng: np.random.Generator) -> Coco:
    left, top = (int(value) for value in rng.integers(1, 10, 2))
    width, height = (int(value) for value in rng.integers(8, 20, 2))
    right = np.full(SIZE, BACKGROUND, np.int16)
    right[top : top + height, left : left + width] = 1
    x1, y1 = left + width, top + height
    content = {
        "images": [{"id": 7, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}],
        "annotations": [
            {
                "id": 12,
                "image_id": 7,
                "category_id": 3,
                "iscrowd": 0,
                "bbox": [left, top, width, height],
                "segmentation": [[left, top, x1, top, x1, y1, left, y1]],
            }
        ],
    }
    return Coco(content, right)


def floats(coco: Coco, rng: np.random.Generator) -> None:
    coco.content["images"][0] |= {"height": float(SIZE[0]), "width": str(SIZE[1]), "id": 7.0}


def texts(coco: Coco, rng: np.random.Generator) -> None:
    coco.content["annotations"][0] |= {"image_id": "7", "category_id": "3"}


def flat(coco: Coco, rng: np.random.Generator) -> None:
    (coco.content["annotations"][0]["segmentation"],) = coco.content["annotations"][0][
        "segmentation"
    ]


def pairs(coco: Coco, rng: np.random.Generator) -> None:
    shape = coco.content["annotations"][0]["segmentation"]
    numbers = shape[0] if isinstance(shape[0], list) else shape
    points = [numbers[i : i + 2] for i in range(0, len(numbers), 2)]
    coco.content["annotations"][0]["segmentation"] = points if rng.integers(2) else [points]


def run_lengths(coco: Coco, rng: np.random.Generator) -> None:
    inside = (coco.right == 1).T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], inside, [1 - inside[-1]]))))
    counts = np.diff(np.concatenate(([0], edges))).tolist()
    coco.content["annotations"][0]["segmentation"] = {"size": [*SIZE], "counts": counts}


def mark(coco: Coco, rng: np.random.Generator) -> None:
    coco.encoding = "utf-8-sig"


def backslash(coco: Coco, rng: np.random.Generator) -> None:
    coco.content["images"][0]["file_name"] = ".\\a.png"


def decomposed(coco: Coco, rng: np.random.Generator) -> None:
    coco.content["images"][0]["file_name"] = unicodedata.normalize("NFC", "é.png")
    coco.files = {f"images/{unicodedata.normalize('NFD', 'é')}.PNG": "a.png"}


def boxes_too(coco: Coco, rng: np.random.Generator) -> None:
    box = {"id": 13, "image_id": 7, "category_id": 1, "bbox": [40, 30, 10, 10]}
    coco.content["annotations"].append(box | ({"segmentation": []} if rng.integers(2) else {}))
    coco.right[30:40, 40:50] = VOID


def unlisted(coco: Coco, rng: np.random.Generator) -> None:
    coco.content["annotations"].append(coco.content["annotations"][0] | {"id": 14, "image_id": 99})


def same_names(coco: Coco, rng: np.random.Generator) -> None:
    coco.content["categories"].append({"id": 9, "name": " Dog"})
    coco.content["annotations"][0]["category_id"] = 9


def special(coco: Coco, rng: np.random.Generator) -> None:
    coco.content["categories"].append({"id": 0, "name": str(rng.choice(["Background", "VOID"]))})


KEEPING = (floats, texts, flat, pairs, run_lengths, mark, backslash, decomposed, boxes_too)
KEEPING += (unlisted, same_names, special)

VALUES: tuple[Any, ...] = (None, True, -1, 0, 1e308, "", "x", [], [[]], [[1, 2]], {}, {"a": 1}, "7")


def spoil(coco: Coco, rng: np.random.Generator) -> None:
    """Replace or remove any value anywhere."""
    coco.exact = False
    node: Any = coco.content
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = keys[rng.integers(len(keys))]
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.75:
            node = node[key]
        elif rng.random() < 0.3:
            del node[key]
            return
        else:
            node[key] = deepcopy(VALUES[rng.integers(len(VALUES))])
            return


def coco_case(rng: np.random.Generator, folder: Path) -> Callable[[], None]:
    coco = some_coco(rng)
    chosen = rng.permutation(len(KEEPING))[: rng.integers(0, 4)]
    for index in sorted(chosen):
        change = KEEPING[index]
        shape = coco.content["annotations"][0]["segmentation"]
        if change is flat and not (isinstance(shape, list) and len(shape) == 1):
            continue
        change(coco, rng)
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, 4)):
            spoil(coco, rng)
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(folder / "a.png")
    text = json.dumps(coco.content, ensure_ascii=bool(rng.integers(2)))
    with ZipFile(folder / "all.zip", "w") as archive:
        archive.writestr("annotations/instances_val.json", text.encode(coco.encoding))
        for name, file in coco.files.items():
            archive.write(folder / file, name)

    def act() -> None:
        def read() -> tuple[np.ndarray, tuple[str, ...]]:
            source = from_zip(folder / "all.zip")
            try:
                data = source.open(source.first_part)
                for note in data.notes:  # type: ignore[attr-defined]
                    check_sentence(source.describe_error(note))
                return data[0].classes, data.names
            finally:
                source.close()

        def right(answer: tuple[np.ndarray, tuple[str, ...]]) -> bool:
            classes, names = answer
            if not coco.exact:
                return True
            dog = classes == names.index("dog")
            return np.array_equal(dog, coco.right == 1) and np.array_equal(
                classes == VOID, coco.right == VOID
            )

        right_or_sentence(read, right, may_refuse=not coco.exact)

    return act


def test_coco_json(tmp_path: Path) -> None:
    run(coco_case, 120, tmp_path)


# ---- archives of images and masks, for both tabs and the command line ----


def archive_case(rng: np.random.Generator, folder: Path) -> Callable[[], None]:
    mask = blob(rng)
    ids = mask.astype(np.uint8) * 2
    names = ["background", "cat", "dog"]
    listed: Any = [name.title() if rng.random() < 0.3 else name for name in names]
    broken = rng.random() < 0.4
    if broken:
        choices = [{}, "dog", ["dog", 3], [], None, ["background"], [[]], ["a", "b"], {"0": "dog"}]
        listed = choices[rng.integers(len(choices))]
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(folder / "image.jpg")
    Image.fromarray(ids).save(folder / "mask.png")
    stem = str(rng.choice(["a", "é", "two words", "犬", "a.b"]))
    form = str(rng.choice(["NFC", "NFD"]))
    slash = str(rng.choice(["/", "\\"]))
    top = str(rng.choice(["", "data/", "data/all/"]))
    entries = {
        f"{top}images/{stem}.{rng.choice(['jpg', 'JPG'])}": folder / "image.jpg",
        f"{top}masks/{unicodedata.normalize(form, stem)}.{rng.choice(['png', 'PNG'])}": folder
        / "mask.png",
    }
    text = json.dumps(listed).encode(str(rng.choice(["utf-8", "utf-8-sig"])))
    with ZipFile(folder / "all.zip", "w") as archive:
        for name, file in entries.items():
            archive.write(file, name.replace("/", slash))
        archive.writestr(f"{top}classes.json".replace("/", slash), text)
        for litter in ("Thumbs.db", "desktop.ini", "images/._a.jpg", "__MACOSX/images/._a.jpg"):
            if rng.random() < 0.4:
                archive.writestr(top + litter, b"nothing of yours")

    def evaluated() -> np.ndarray:
        source = from_zip(folder / "all.zip")
        try:
            data = source.open(source.first_part)
            return data[0].classes == [name.lower() for name in data.names].index("dog")
        finally:
            source.close()

    def adapted() -> np.ndarray:
        (sample,) = read_upload([folder / "all.zip"], ())
        return sample.classes == [name.lower() for name in sample.names].index("dog")

    def on_the_command_line() -> np.ndarray:
        data = open_data(f"folder:{folder / 'all.zip'}", "val")
        return data[0].classes == [name.lower() for name in data.names].index("dog")

    def act() -> None:
        for read in (evaluated, adapted, on_the_command_line):
            right_or_sentence(
                read,
                lambda found: not broken and np.array_equal(found, mask),
                may_refuse=broken,
            )

    return act


def test_archives(tmp_path: Path) -> None:
    run(archive_case, 50, tmp_path)


# ---- typed names ----


def typed_case(rng: np.random.Generator, folder: Path) -> Callable[[], None]:
    parts = ["dog", "Dog", "cat;kitten", "，", "、", "；", ",", ";", " ", "\n", "é", "e\u0301"]
    parts += ["[", "]", "{", "}", '"', ":", "0", "-1", "1e9", "null", "\0", "\ufeff", "犬" * 30]
    text = "".join(rng.choice(parts) for _ in range(rng.integers(0, 12)))

    def act() -> None:
        right_or_sentence(
            lambda: prompt_from_classes(parse_classes(text)), lambda prompt: bool(prompt.texts)
        )
        right_or_sentence(
            lambda: read_names(text),
            lambda names: names is None or all(isinstance(name, str) for name in names),
        )

    return act


def test_typed_names(tmp_path: Path) -> None:
    run(typed_case, 100, tmp_path)
