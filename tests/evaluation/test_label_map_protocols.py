"""Open-vocabulary scores on label maps small enough to count by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsam.data.readers import DataError, open_data
from clipsam.data.samples import BACKGROUND, VOID, LabelledImage
from clipsam.evaluation.label_map_protocols import (
    PROTOCOLS,
    ConfusionMatrix,
    Protocol,
    evaluate_open_vocabulary,
    load_protocol,
)

B, V = BACKGROUND, VOID
PETS = ("cat", "dog", "cow")


class Images:
    """Images of the given class maps, each as wide and high as its map."""

    def __init__(self, names: tuple[str, ...], maps: list[list[list[int]]]) -> None:
        self.names = names
        self.keys = tuple(str(number) for number in range(len(maps)))
        self._maps = [np.array(rows, np.int16) for rows in maps]

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, index: int) -> LabelledImage:
        classes = self._maps[index]
        image = np.full((*classes.shape, 3), index, np.uint8)
        return LabelledImage(
            self.keys[index], image, classes, np.zeros(classes.shape, np.int32), self.names
        )


# --- the confusion matrix -------------------------------------------------------------------


def test_by_hand():
    truth = np.array([[0, 0, 0, 1], [1, V, B, 0]], np.int16)
    predicted = np.array([[0, 0, 1, 1], [2, 0, 1, 0]])
    matrix = ConfusionMatrix.of(truth, predicted, 4)
    assert matrix.counts.dtype == np.int64
    np.testing.assert_array_equal(
        matrix.counts, [[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(matrix.present, [True, True, False, False])
    # Class 2 is predicted but not there, class 3 neither: neither is in the mean.
    np.testing.assert_array_equal(matrix.iou_per_class(), [3 / 4, 1 / 3, 0, np.nan])
    assert matrix.mean_iou() == (3 / 4 + 1 / 3) / 2


def test_sum_is_one_matrix_over_the_set():
    one = ConfusionMatrix.of(np.zeros((1, 4), int), np.array([[0, 0, 0, 1]]), 2)
    two = ConfusionMatrix.of(np.zeros((1, 1), int), np.array([[1]]), 2)
    np.testing.assert_array_equal((one + two).counts, [[3, 2], [0, 0]])
    assert (one + two).mean_iou() == 3 / 5  # not the mean of 3/4 and 0


def test_against_a_loop():
    rng = np.random.default_rng(0)
    classes = 300
    truth = rng.integers(-2, classes, (40, 50)).astype(np.int16)
    predicted = rng.integers(0, classes, (40, 50)).astype(np.uint16)
    predicted[:20] = np.maximum(truth[:20], 0)
    matrix = ConfusionMatrix.of(truth, predicted, classes)
    values = []
    for value in range(classes):
        pairs = [(t, p) for t, p in zip(truth.flat, predicted.flat, strict=True) if t >= 0]
        true = {i for i, (t, _) in enumerate(pairs) if t == value}
        found = {i for i, (_, p) in enumerate(pairs) if p == value}
        if true:
            values.append(len(true & found) / len(true | found))
    assert matrix.counts.sum() == (truth >= 0).sum()
    assert matrix.mean_iou() == pytest.approx(np.mean(values), abs=1e-12)


def test_nothing_scored():
    matrix = ConfusionMatrix.of(np.full((2, 2), V), np.zeros((2, 2), int), 3)
    assert matrix.counts.sum() == 0
    assert math.isnan(matrix.mean_iou())


def test_what_is_no_pair_of_label_maps():
    with pytest.raises(ValueError, match=r"same shape, got \(1, 2\) and \(2, 1\)"):
        ConfusionMatrix.of(np.zeros((1, 2), int), np.zeros((2, 1), int), 3)
    with pytest.raises(ValueError, match=r"must be in 0\.\.2, got 0\.\.3"):
        ConfusionMatrix.of(np.zeros((1, 2), int), np.array([[0, 3]]), 3)


# --- protocols ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "classes", "prompts"),
    [
        ("A-847", 847, 847),
        ("PC-459", 459, 459),
        ("A-150", 150, 150),
        ("PC-59", 59, 59),
        ("PAS-20", 20, 20),
        ("PAS-20b", 20, 59),
    ],
)
def test_protocols(name, classes, prompts):
    protocol = load_protocol(name)
    assert (protocol.name, protocol.kind) == (name, name.lower())
    assert (len(protocol.classes), len(protocol.prompts)) == (classes, prompts)
    assert protocol.background == (name == "PAS-20b")
    assert not any(", " in prompt for prompt in protocol.prompts)
    firsts = [names.split(", ")[0] for names in protocol.classes]
    assert list(protocol.prompts[:classes]) == firsts


def test_only_the_first_synonym_is_asked():
    protocol = load_protocol("A-847")
    assert protocol.classes[1] == "building, edifice"
    assert protocol.prompts[1] == "building"


def test_unknown_protocol():
    with pytest.raises(DataError, match="no benchmark A-151, expected one of A-847, PC-459, "):
        load_protocol("A-151")


def test_prompts_beyond_the_classes_need_a_background():
    with pytest.raises(ValueError, match="4 prompts do not fit 3 classes without background"):
        Protocol("pets", "pets", PETS, (*PETS, "grass"))
    with pytest.raises(ValueError, match="3 prompts do not fit 3 classes with background"):
        Protocol("pets", "pets", PETS, PETS, background=True)


def test_background_is_dropped_by_pas_20():
    protocol = load_protocol("PAS-20")
    matrix = protocol.count(np.array([[0, B, V, 19]]), np.array([[0, 5, 6, 0]]))
    assert matrix.counts.shape == (20, 20)
    assert matrix.counts.sum() == 2
    assert (matrix.counts[0, 0], matrix.counts[19, 0]) == (1, 1)
    assert matrix.mean_iou() == (1 / 2 + 0) / 2


def test_background_is_a_class_of_pas_20b():
    protocol = load_protocol("PAS-20b")
    assert protocol.scored[19:] == ("tvmonitor", "background")
    truth = np.array([[0, 0, B, B, B, V, 19]])
    predicted = np.array([[0, 58, 20, 41, 3, 20, 19]], np.uint8)
    counts = protocol.count(truth, predicted).counts
    assert counts.shape == (21, 21)
    assert counts.sum() == 6
    assert (counts[0, 0], counts[0, 20]) == (1, 1)
    assert (counts[20, 20], counts[20, 3], counts[19, 19]) == (2, 1, 1)
    # Aeroplane 1/2, background 2 of 3 and one false alarm, tvmonitor 1; cat is not in the truth.
    expected = (1 / 2 + 2 / 4 + 1) / 3
    assert protocol.count(truth, predicted).mean_iou() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        (np.zeros((1, 2)), "must contain integers, got float64"),
        (np.zeros((1, 2), bool), "must contain integers, got bool"),
        (np.array([[0, 59]]), r"a label map of PAS-20b must be in 0\.\.58, got 0\.\.59"),
        (np.array([[-1, 0]]), r"a label map of PAS-20b must be in 0\.\.58, got -1\.\.0"),
        (np.zeros((2, 2), int), r"same shape, got \(1, 2\) and \(2, 2\)"),
    ],
)
def test_what_is_no_label_map(predicted, message):
    # Also where the truth would not count the pixel.
    with pytest.raises(ValueError, match=message):
        load_protocol("PAS-20b").count(np.full((1, 2), V), predicted)


# --- evaluation -----------------------------------------------------------------------------


def test_evaluate():
    data = Images(PETS, [[[0, 0, 1], [V, B, 1]], [[0, 0]]])
    protocol = Protocol("pets", "pets", PETS, ("a cat", "a dog", "a cow"))
    predictions = [np.array([[0, 1, 1], [2, 2, 1]]), np.array([[0, 2]])]
    asked = []

    def label_map_of(image: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        asked.append((image.shape, names))
        return predictions[image[0, 0, 0]]

    seen = []
    result = evaluate_open_vocabulary(
        data, label_map_of, protocol, progress=lambda done, total: seen.append((done, total))
    )
    assert asked == [((2, 3, 3), protocol.prompts), ((1, 2, 3), protocol.prompts)]
    assert seen == [(1, 2), (2, 2)]
    assert (result.images, result.protocol) == (2, protocol)
    np.testing.assert_array_equal(result.confusion.counts, [[2, 1, 1], [0, 2, 0], [0, 0, 0]])
    assert result.mean_iou == pytest.approx((2 / 4 + 2 / 3) / 2, abs=1e-15)


def test_data_of_another_number_of_classes():
    with pytest.raises(DataError, match=r"has 20 classes, but .* has 3; open it as pas-20:PATH"):
        evaluate_open_vocabulary(
            Images(PETS, [[[0]]]), lambda image, names: image[..., 0], load_protocol("PAS-20")
        )


@pytest.mark.parametrize("name", ["PAS-20", "PAS-20b"])
def test_prepared_masks_and_vocs_own_score_alike(tmp_path, name):
    ids = np.array([[0, 0, 1, 1, 255, 20]] * 4, np.uint8)
    shifted = np.where(ids == 255, 255, ids.astype(int) - 1)
    prepared = np.where(shifted < 0, 20 if name == "PAS-20b" else 255, shifted).astype(np.uint8)
    folder = "annotations_detectron2" + ("_bg" if name == "PAS-20b" else "")

    def save(path: Path, values: np.ndarray) -> None:
        path.parent.mkdir(parents=True)
        Image.fromarray(values).save(path)

    save(tmp_path / "JPEGImages" / "2007_000033.jpg", np.zeros((4, 6, 3), np.uint8))
    save(tmp_path / "SegmentationClass" / "2007_000033.png", ids)
    save(tmp_path / folder / "val" / "2007_000033.png", prepared)
    listing = tmp_path / "ImageSets" / "Segmentation" / "val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("2007_000033\n")

    protocol = load_protocol(name)
    predicted = np.resize(np.arange(len(protocol.prompts)), (4, 6))
    matrices = [
        evaluate_open_vocabulary(
            open_data(f"{kind}:{tmp_path}", "val"), lambda image, names: predicted, protocol
        ).confusion
        for kind in (protocol.kind, "voc")
    ]
    np.testing.assert_array_equal(matrices[0].counts, matrices[1].counts)
    assert matrices[0].counts.sum() == (20 if name == "PAS-20b" else 12)


def test_every_protocol_has_its_kind_of_data(tmp_path):
    for name in PROTOCOLS:
        with pytest.raises(DataError, match="lacks the folders"):
            open_data(f"{load_protocol(name).kind}:{tmp_path}", "val")
