"""What every method promises, asked of each method in each of its modes, on trained weights.

Where a method runs published networks, small random ones stand in for them. A method joins by
registering itself; nothing has to be added here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from transformers.models.clip.modeling_clip import CLIPMLP

from baselines.map_prompted import ClipMapPredictor, MapPromptedPredictor
from clipsam import encoded_image as scene_module
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.errors import PromptError
from clipsam.methods.tuned_sam import TunedSamPredictor
from clipsam.models.clip import SurgeryVision
from clipsam.models.image_encoder import finish_plain_block, run_plain_blocks
from clipsam.predictor import PredictOptions, Predictor
from clipsam.registry import METHODS, WITHOUT_SAM, load_predictor, methods
from clipsam.types import Concept, Prediction, Prompt
from clipsam.weights.availability import method_status
from clipsam.weights.presets import TINY

CASES = [(name, mode) for name, method in methods().items() for mode in method.info.modes]
JOINT = [case for case in CASES if methods()[case[0]].joint]
SEPARATE = [case for case in CASES if case not in JOINT]
SIZE = (150, 220)
IMAGE = SceneData(8, seed=5)[0].image[: SIZE[0], : SIZE[1]]
THREE = (
    Concept(("striped star",), points=[[40, 60]], labels=[1]),
    Concept(("red disc", "scarlet circle"), points=[[200, 20], [5, 5]], labels=[1, 0]),
    Concept(("blue square",), box=[10, 20, 90, 140]),
)
PROMPT = Prompt(THREE)


@pytest.fixture(scope="module")
def loaded(tiny, published_networks: Path) -> dict[str, Predictor]:
    """Predictors that can run with the bundle and the stand-ins."""
    ready = [name for name, info in METHODS.items() if method_status(info, TINY) == "ready"]
    return {name: load_predictor(name, tiny) for name in ready}


def only(*kinds: type[Predictor], but: str = "manual") -> pytest.MarkDecorator:
    """Cases in which a method of certain kinds is asked with class names alone.

    Args:
        kinds: the methods' base classes.
        but: another mode to leave out.
    """
    cases = [
        case
        for case in CASES
        if case[1] not in ("manual", but) and issubclass(methods()[case[0]], kinds)
    ]
    return pytest.mark.parametrize("case", cases, indirect=True, ids=named)


def named(case: tuple[str, str]) -> str:
    return ":".join(case)


manual = pytest.mark.parametrize(
    "case", [case for case in CASES if case[1] == "manual"], indirect=True, ids=named
)
of_clips_map = only(TunedSamPredictor, ClipMapPredictor)
drawn = only(TunedSamPredictor, MapPromptedPredictor, but=WITHOUT_SAM)
separate = pytest.mark.parametrize("case", SEPARATE, indirect=True, ids=named)
joint = pytest.mark.parametrize("case", JOINT, indirect=True, ids=named)


@pytest.fixture(scope="module", params=CASES, ids=named)
def case(request, loaded) -> tuple[Predictor, PredictOptions]:
    name, mode = request.param
    if name not in loaded:
        pytest.skip(f"{name} is {method_status(METHODS[name], TINY)} for tiny")
    return loaded[name], PredictOptions(mode=mode)


@pytest.fixture(scope="module")
def answer(case) -> Prediction:
    predictor, options = case
    return predictor.predict(EncodedImage(IMAGE), PROMPT, options)


def sees_pixels(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.in_channels == 3


def encodes(module: nn.Module) -> bool:
    """Whether something runs only where an image or CLIP's text is encoded.

    SAM's blocks are run in parts; each has one fused projection.
    """
    fused = isinstance(module, nn.Linear) and module.out_features == 3 * module.in_features
    return fused or sees_pixels(module) or isinstance(module, CLIPMLP)


@contextmanager
def counted(*networks: nn.Module, which: Callable[[nn.Module], bool]) -> Iterator[list[nn.Module]]:
    """Those modules that ran inside; one entry per run."""
    ran: list[nn.Module] = []
    modules = {module for network in networks for module in network.modules() if which(module)}
    hooks = [one.register_forward_hook(lambda module, *_: ran.append(module)) for one in modules]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()


def test_answer_has_the_promised_form(case, answer):
    predictor, options = case
    assert (answer.method, answer.preset, answer.mode) == (
        predictor.info.id,
        "tiny",
        options.mode,
    )
    assert answer.texts == ("striped star", "red disc", "blue square")
    logits = answer.logits()
    assert logits.dtype == np.float32
    assert logits.shape == (3, *SIZE)
    assert np.isfinite(logits).all()
    assert answer.logits((30, 44)).shape == (3, 30, 44)
    for index in range(3):
        np.testing.assert_array_equal(answer.class_logits(index), logits[index])
        assert answer.candidate_masks(index).shape[1:] == SIZE
    assert answer.peak_memory_mb > 0
    assert all(seconds >= 0 for seconds in answer.seconds.values())


def test_masks_shrink_as_the_threshold_rises(answer):
    masks = [answer.masks(threshold) for threshold in (-np.inf, -2.0, 0.0, 1.5, np.inf)]
    assert masks[0].all()
    assert not masks[-1].any()
    for lower, higher in itertools.pairwise(masks):
        assert not (higher & ~lower).any()


def test_presence_is_a_probability_or_unknown(answer):
    known = answer.presence[~np.isnan(answer.presence)]
    assert ((known >= 0) & (known <= 1)).all()


def test_similarity_is_a_cosine(answer):
    for result in answer.results:
        if result.similarity is not None and TINY.feature_norm == "cosine":
            assert result.similarity.dtype == np.float32
            assert result.similarity.ndim == 2
            assert np.abs(result.similarity).max() <= 1.001


def test_prompts_used_lie_inside_the_image(answer):
    height, width = SIZE
    for result in answer.results:
        used = result.prompts
        assert used.points.shape == (len(used.labels), 2)
        assert used.boxes.shape[1:] == (4,)
        for x, y in np.concatenate((used.points, used.boxes.reshape(-1, 2))):
            assert 0 <= x <= width
            assert 0 <= y <= height
        assert used.dense is None or used.dense.dtype == bool


@manual
def test_manual_mode_feeds_the_given_points(answer):
    for concept, result in zip(THREE, answer.results, strict=True):
        np.testing.assert_array_equal(result.prompts.points, concept.points)
        np.testing.assert_array_equal(result.prompts.labels, concept.labels)
        assert len(result.prompts.boxes) == (concept.box is not None)


def test_same_call_same_answer(case, answer):
    predictor, options = case
    again = predictor.predict(EncodedImage(IMAGE), PROMPT, options)
    np.testing.assert_array_equal(again.logits(), answer.logits())
    for first, second in zip(answer.results, again.results, strict=True):
        np.testing.assert_array_equal(first.prompts.points, second.prompts.points)
        np.testing.assert_array_equal(first.presence, second.presence)


@separate
@pytest.mark.parametrize("index", [0, 2])
def test_a_class_is_independent_of_the_others(case, answer, index):
    predictor, options = case
    alone = predictor.predict(EncodedImage(IMAGE), Prompt(THREE[index : index + 1]), options)
    np.testing.assert_allclose(
        alone.class_logits(0), answer.class_logits(index), atol=1e-4, rtol=1e-4
    )


def test_a_class_that_is_asked_as_before_keeps_its_answer(case, answer, monkeypatch):
    """After a click on another class; competing classes are all asked again."""
    predictor, options = case
    asked, predict_all = [], type(predictor)._predict_all

    def noted(
        self: Predictor, encoded: EncodedImage, concepts: Sequence[Concept], *rest: object
    ) -> list:
        asked.extend(concept.text for concept in concepts)
        return predict_all(self, encoded, concepts, *rest)

    monkeypatch.setattr(type(predictor), "_predict_all", noted)
    clicked = replace(THREE[2], points=[[50, 70]], labels=[1])
    prompt = Prompt((*THREE[:2], clicked))
    found = predictor.predict(EncodedImage(IMAGE), prompt, options, earlier=answer)
    assert asked == [clicked.text] or (predictor.joint and len(asked) == 3)
    asked.clear()
    anew = predictor.predict(EncodedImage(IMAGE), prompt, options)
    assert len(asked) == 3
    np.testing.assert_allclose(found.logits(), anew.logits(), atol=1e-4, rtol=1e-4)
    assert (found.texts, found.mode) == (anew.texts, anew.mode)


@joint
def test_classes_compete_in_any_order(case, answer):
    """What is asked matters, the order in which it is asked does not."""
    predictor, options = case
    order = [2, 0, 1]
    permuted = predictor.predict(
        EncodedImage(IMAGE), Prompt(tuple(THREE[i] for i in order)), options
    )
    np.testing.assert_allclose(permuted.logits(), answer.logits()[order], atol=1e-4, rtol=1e-4)
    alone = predictor.predict(EncodedImage(IMAGE), Prompt(THREE[:1]), options)
    assert np.abs(alone.class_logits(0) - answer.class_logits(0)).max() > 1e-4


@joint
def test_competing_classes_draw_no_lots(case, answer):
    predictor, options = case
    other = predictor.predict(
        EncodedImage(IMAGE), PROMPT, PredictOptions(mode=options.mode, seed=1)
    )
    np.testing.assert_array_equal(other.logits(), answer.logits())


def test_second_call_encodes_nothing(case, answer):
    predictor, options = case
    encoded = EncodedImage(IMAGE)
    networks = predictor.network(), predictor.backbones.sam
    with counted(*networks, which=encodes) as ran:
        predictor.predict(encoded, PROMPT, options)
    assert ran, "the hooks see nothing"
    with counted(*networks, which=encodes) as ran:
        again = predictor.predict(encoded, PROMPT, options)
    assert not ran
    np.testing.assert_array_equal(again.logits(), answer.logits())


def test_methods_share_one_plain_encoding(loaded, tiny, monkeypatch):
    encoded, blocks, encoder = EncodedImage(IMAGE), [], tiny.sam.image_encoder

    def run(
        run_by: nn.Module, tokens: torch.Tensor, start: int, stop: int, compiled: bool
    ) -> torch.Tensor:
        blocks.extend(range(start, stop))
        return run_plain_blocks(run_by, tokens, start, stop, compiled)

    def finish(block: nn.Module, *rest: torch.Tensor) -> torch.Tensor:
        blocks.append(list(encoder.blocks).index(block))
        return finish_plain_block(block, *rest)

    monkeypatch.setattr(scene_module, "run_plain_blocks", run)
    monkeypatch.setattr(scene_module, "finish_plain_block", finish)
    with counted(tiny.sam, which=sees_pixels) as ran:
        for predictor in loaded.values():
            predictor.predict(encoded, PROMPT)
    assert len(ran) == 1
    assert sorted(blocks) == list(range(len(encoder.blocks)))


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (1, 1), (2, 300)], ids=str)
def test_any_size(case, size):
    predictor, options = case
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    concept = Concept(("red disc",), points=[[size[1] / 2, size[0] / 2]], labels=[1])
    prediction = predictor.predict(EncodedImage(image), Prompt((concept,)), options)
    assert prediction.logits().shape == (1, *size)
    assert np.isfinite(prediction.logits()).all()
    for x, y in prediction.results[0].prompts.points:
        assert 0 <= x <= size[1]
        assert 0 <= y <= size[0]


@pytest.mark.parametrize(
    "outside",
    [
        dict(points=[[221, 10]], labels=[1]),
        dict(points=[[10, -1]], labels=[1]),
        dict(box=[1, 1, 30, 151]),
    ],
    ids=["right", "above", "below"],
)
def test_prompts_outside_the_image_are_refused(case, outside):
    predictor, options = case
    with pytest.raises(PromptError, match=r"cat.*220 × 150"):
        predictor.predict(EncodedImage(IMAGE), Prompt((Concept(("cat",), **outside),)), options)


@manual
def test_manual_mode_demands_points(case):
    predictor, options = case
    concepts = THREE[0], Concept(("hair drier",), points=[[3, 3]], labels=[0])
    with pytest.raises(PromptError, match="hair drier"):
        predictor.predict(EncodedImage(IMAGE), Prompt(concepts), options)


def test_unknown_mode_lists_the_modes(case):
    predictor, _ = case
    with pytest.raises(PromptError) as error:
        predictor.predict(EncodedImage(IMAGE), PROMPT, PredictOptions(mode="telepathic"))
    for mode in ("telepathic", *predictor.info.modes):
        assert mode in str(error.value)


def test_progress_counts_the_classes(case):
    predictor, options = case
    calls: list[tuple[int, int]] = []
    predictor.predict(EncodedImage(IMAGE), PROMPT, options, lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]


@of_clips_map
def test_a_map_that_is_the_same_everywhere_finds_nothing(case, monkeypatch):
    """The authors' code crashes here: no point lies above the threshold."""
    predictor, options = case
    feature = torch.randn(TINY.clip.projection_dim, generator=torch.Generator().manual_seed(0))
    tokens = 1 + (TINY.clip.surgery_size // TINY.clip.patch_size) ** 2
    monkeypatch.setattr(
        SurgeryVision, "forward", lambda self, pixels: feature.expand(len(pixels), tokens, -1)
    )
    prediction = predictor.predict(EncodedImage(IMAGE), PROMPT, options)
    assert np.isfinite(prediction.logits()).all()
    assert not prediction.masks().any()
    assert (prediction.presence == 0).all()
    assert all(result.note.endswith(".") for result in prediction.results)


@drawn
def test_drawn_points_follow_the_seed(case, answer):
    """Points come from the seed and the class alone; another seed moves some of them."""
    predictor, options = case
    other = predictor.predict(
        EncodedImage(IMAGE), PROMPT, PredictOptions(mode=options.mode, seed=1)
    )
    pairs = zip(answer.results, other.results, strict=True)
    assert any(not np.array_equal(a.prompts.points, b.prompts.points) for a, b in pairs)


class Touched(TorchFunctionMode):
    """Notes the parameters that anything is computed with."""

    def __init__(self) -> None:
        super().__init__()
        self.parameters: dict[int, nn.Parameter] = {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, nn.Parameter):
                self.parameters[id(given)] = given
        return function(*args, **(kwargs or {}))


def test_all_that_it_computes_with_is_its_network(case):
    """So that moving the network to a device moves everything."""
    predictor, options = case
    with Touched() as touched:
        predictor.predict(EncodedImage(IMAGE), PROMPT, options)
    own = {id(parameter) for parameter in predictor.network().parameters()}
    assert len(touched.parameters) > 50
    assert set(touched.parameters) <= own
