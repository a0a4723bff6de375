"""ESC-Net as a method: all classes at once, on the tiny backbones, before any training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clipsam.encoded_image import EncodedImage
from clipsam.geometry import SquareTransform, normalize
from clipsam.measure import Stopwatch
from clipsam.methods import esc_net as methods
from clipsam.methods.esc_net import CatSegPredictor, EscNetPredictor
from clipsam.models.clip import build_clip
from clipsam.models.esc_net.chunking import MAX_MAPS_ON_GPU, kept_bytes, working_bytes
from clipsam.models.sam_model import build_sam
from clipsam.predictor import PredictOptions
from clipsam.registry import count_parameters
from clipsam.types import Concept, Prompt
from clipsam.weights.backbones import assemble
from clipsam.weights.bundle import WeightsError, save_bundle
from clipsam.weights.presets import PRESETS, TINY

SIZE = (150, 220)
IMAGE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
CONCEPTS = (Concept(("star",)), Concept(("red disc", "scarlet circle")), Concept(("road",)))


@pytest.fixture(scope="module")
def esc_net(tiny) -> EscNetPredictor:
    torch.manual_seed(0)
    return EscNetPredictor.untrained(tiny)


@pytest.fixture(scope="module")
def cat_seg(tiny) -> CatSegPredictor:
    torch.manual_seed(0)
    return CatSegPredictor.untrained(tiny)


@torch.inference_mode()
def answer(predictor, concepts=CONCEPTS, mode="whole-image", encoded=None, progress=None):
    modes = [mode] * len(concepts)
    watch = Stopwatch(predictor.backbones.device)
    encoded = encoded or EncodedImage(IMAGE)
    return predictor._predict_all(encoded, concepts, modes, PredictOptions(), watch, progress)


def pixels(side: int) -> torch.Tensor:
    """The image squashed to a square and normalised."""
    square = torch.from_numpy(SquareTransform(SIZE, side, "squash").image(IMAGE))
    return normalize(square.permute(2, 0, 1)[None], TINY.clip_mean, TINY.clip_std)


def test_one_answer_per_class(esc_net):
    calls = []
    results = answer(esc_net, progress=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    for result in results:
        assert result.logits.dtype == result.similarity.dtype == np.float32
        assert result.logits.shape == (64, 64)
        assert result.similarity.shape == (16, 16)
        assert np.isfinite(result.logits).all()
        assert np.abs(result.similarity).max() <= 1.001


@torch.no_grad()
def test_similarity_is_clips_own_cosine(esc_net, tiny):
    results = answer(esc_net)
    dense = esc_net.model.encode_image(pixels(256)).dense[0]
    for concept, result in zip(CONCEPTS, results, strict=True):
        ids = tiny.text.tokenizer(
            list(concept.synonyms), padding=True, return_tensors="pt"
        ).input_ids
        text = tiny.clip.text_projection(tiny.clip.text_model(input_ids=ids).pooler_output)
        text = F.normalize(text, dim=-1).mean(0)
        expected = F.cosine_similarity(dense, text[:, None, None], dim=0)
        np.testing.assert_allclose(result.similarity, expected.numpy(), atol=1e-5)


def test_order_does_not_matter_but_company_does(esc_net):
    results, reversed_ = answer(esc_net), answer(esc_net, CONCEPTS[::-1])
    for there, here in zip(results, reversed_[::-1], strict=True):
        np.testing.assert_allclose(there.logits, here.logits, atol=1e-5)
    alone = answer(esc_net, CONCEPTS[:1])[0]
    assert np.abs(alone.logits - results[0].logits).max() > 1e-4
    np.testing.assert_allclose(alone.similarity, results[0].similarity, atol=1e-6)


def test_each_block_s_maps_and_prompts_are_shown(tiny):
    predictor, encoded = moved(EscNetPredictor.untrained(tiny)), EncodedImage(IMAGE)
    results = answer(predictor, encoded=encoded)
    with torch.inference_mode():
        text = predictor._encode_texts(CONCEPTS)
        blocks = predictor._whole(encoded, text, Stopwatch(tiny.device)).blocks
    for index, result in enumerate(results):
        assert len(result.block_traces) == len(blocks) == predictor.config.blocks > 1
        for seen, block in zip(result.block_traces, blocks, strict=True):
            np.testing.assert_array_equal(seen.similarity, block.maps[0, index].numpy())
            told = block.prompts
            valid = told.valid[0, index]
            cells = (told.points[0, index][valid].numpy() + 0.5) / 16
            np.testing.assert_allclose(seen.points, cells * [SIZE[1], SIZE[0]], rtol=1e-6)
            np.testing.assert_array_equal(seen.regions, told.regions[0, index][valid].numpy())
        np.testing.assert_array_equal(result.block_traces[0].similarity, result.similarity)
        first, last = result.block_traces[0], result.block_traces[-1]
        assert np.abs(first.similarity - last.similarity).max() > 1e-3
        np.testing.assert_array_equal(result.prompts.points, last.points)
        assert (result.prompts.labels == 1).all()
        np.testing.assert_array_equal(result.prompts.dense, last.regions.any(0))


def test_a_round_s_points_are_its_regions_highest_cells(esc_net):
    for result in answer(esc_net):
        for seen in result.block_traces:
            assert seen.similarity.dtype == seen.points.dtype == np.float32
            assert seen.regions.dtype == bool
            assert seen.similarity.shape == (16, 16)
            assert seen.regions.shape == (len(seen.points), 16, 16)
            assert 1 <= len(seen.points) <= 5
            assert (seen.regions.sum(0) <= 1).all()
            for (x, y), region in zip(seen.points, seen.regions, strict=True):
                row, column = int(y / SIZE[0] * 16), int(x / SIZE[1] * 16)
                assert region[row, column]
                assert seen.similarity[row, column] == seen.similarity[region].max()


def test_without_sam_there_are_no_prompts(cat_seg):
    for result in answer(cat_seg):
        assert result.prompts.points.shape == (0, 2)
        assert result.prompts.dense is None
        assert len(result.block_traces) == cat_seg.config.blocks
        assert all(seen.points.shape == (0, 2) for seen in result.block_traces)
        assert all(seen.regions is None for seen in result.block_traces)


def test_without_blocks_there_are_no_rounds(tiny):
    config = replace(CatSegPredictor.design(TINY), blocks=0)
    (result,) = answer(CatSegPredictor.untrained(tiny, config), CONCEPTS[:1])
    assert result.block_traces == ()
    assert result.prompts.points.shape == (0, 2)


@pytest.mark.parametrize("mode", ["whole-image", "sliding-window"])
def test_presence_is_the_probability_of_the_likeliest_pixel(cat_seg, mode):
    for result in answer(cat_seg, mode=mode):
        expected = 1 / (1 + np.exp(-np.float64(result.logits.max())))
        assert result.presence == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_sliding_windows(cat_seg):
    """CAT-Seg's inference, with unfold and fold."""
    results = answer(cat_seg, mode="sliding-window")
    canvas = pixels(640)
    windows = F.unfold(canvas, 384, stride=256).unflatten(1, (3, 384, 384))[0].movedim(-1, 0)
    windows = F.interpolate(windows, (256, 256), mode="bilinear", antialias=True)
    text = cat_seg._encode_texts(CONCEPTS)
    inputs = torch.cat((windows, pixels(256)))
    logits = cat_seg.model(cat_seg.model.encode_image(inputs), text).logits
    probability = F.interpolate(logits, (384, 384), mode="bilinear").sigmoid()
    parts = probability[:-1].flatten(1).T[None]
    ones = torch.ones_like(parts)
    folded = F.fold(parts, (640, 640), 384, stride=256) / F.fold(ones, (640, 640), 384, stride=256)
    once = F.interpolate(probability[-1:], (640, 640), mode="bilinear")
    expected = (folded + once)[0] / 2
    for index, result in enumerate(results):
        found = torch.from_numpy(result.logits).sigmoid()
        torch.testing.assert_close(found, expected[index], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["whole-image", "sliding-window"])
def test_a_small_budget_takes_fewer_classes_at_a_time_and_gives_the_same(tiny, monkeypatch, mode):
    torch.manual_seed(0)
    predictor, chunks = EscNetPredictor.untrained(tiny), []
    forward = predictor.model.forward

    def watched(features, text, chunk, *rest):
        chunks.append(chunk)
        return forward(features, text, chunk, *rest)

    monkeypatch.setattr(predictor.model, "forward", watched)
    concepts = [Concept((f"thing {number}",)) for number in range(10)]
    answers = []
    for budget, *expected in ((None, 10, 8), (10**12, 10, 8), (0, 1, 1), (30_000_000, 6, 1)):
        predictor.memory_budget = budget
        chunks.clear()
        answers.append(answer(predictor, concepts, mode))
        assert chunks == expected[: len(chunks)]
    for other in answers[1:]:
        for a, b in zip(answers[0], other, strict=True):
            np.testing.assert_allclose(a.logits, b.logits, atol=1e-4, rtol=0)


def test_on_a_gpu_its_free_memory_is_the_budget(tiny, monkeypatch):
    """Half of what is free there, and fewer classes at a time when that is little."""
    gpu, asked = torch.device("cuda", 0), []
    predictor = EscNetPredictor.untrained(tiny)
    features = predictor.model.encode_image(pixels(256))
    text = predictor._encode_texts(CONCEPTS[:1]).expand(400, -1)
    predictor.backbones = replace(tiny, device=gpu)
    free = [10**12, 200 * 10**6, 0]

    def free_memory(device):
        asked.append(device)
        return free[len(asked) - 1]

    monkeypatch.setattr(methods, "free_memory", free_memory)
    kept, working = (f(predictor.config, 16) for f in (kept_bytes, working_bytes))
    fitting = (100 * 10**6 - 400 * kept) // working
    assert 1 < fitting < MAX_MAPS_ON_GPU
    found = [predictor._chunk(features, text) for _ in free]
    assert found == [MAX_MAPS_ON_GPU, fitting, 1]
    assert asked == [gpu] * 3


@pytest.mark.parametrize("size", [(90, 60), (1, 1), (2, 300)], ids=str)
def test_any_size(esc_net, size):
    encoded = EncodedImage(np.zeros((*size, 3), np.uint8))
    (result,) = answer(esc_net, CONCEPTS[:1], encoded=encoded)
    assert np.isfinite(result.logits).all()
    points = result.prompts.points
    assert ((points >= 0) & (points <= size[::-1])).all()
    maps = torch.from_numpy(result.logits)[None, None]
    assert esc_net._transform(encoded).to_image(maps).shape[2:] == size


def test_the_contract_is_met(esc_net):
    encoded = EncodedImage(IMAGE)
    prediction = esc_net.predict(encoded, Prompt(CONCEPTS[:1]))
    assert (prediction.method, prediction.mode) == ("esc-net", "whole-image")
    assert prediction.logits().shape == (1, *SIZE)
    np.testing.assert_allclose(
        prediction.results[0].logits, answer(esc_net, CONCEPTS[:1])[0].logits, atol=1e-5
    )


def test_images_and_texts_are_encoded_once(tiny):
    predictor, encoded, ran = EscNetPredictor.untrained(tiny), EncodedImage(IMAGE), []
    clip = predictor.model.clip
    for part in (clip.visual_projection, clip.text_projection):
        part.register_forward_hook(lambda *_: ran.append(1))
    first = answer(predictor, encoded=encoded)
    assert len(ran) == 1 + len(CONCEPTS)
    again = answer(predictor, encoded=encoded)
    assert len(ran) == 1 + len(CONCEPTS)
    np.testing.assert_array_equal(first[0].logits, again[0].logits)
    # Training changes the weights in place: texts of before are forgotten.
    with torch.no_grad():
        clip.text_model.encoder.layers[0].self_attn.v_proj.weight.add_(0.1)
    changed = answer(predictor, encoded=encoded)
    assert len(ran) == 1 + 2 * len(CONCEPTS)
    assert np.abs(changed[0].similarity - first[0].similarity).max() > 1e-6


def test_it_starts_from_the_presets_weights(tiny, esc_net, cat_seg):
    for name, parameter in tiny.clip.named_parameters():
        assert esc_net.model.clip.get_parameter(name).equal(parameter)
        assert not parameter.requires_grad
    base = esc_net.tuned_from()
    state = esc_net.model.state_dict()
    pretrained = {name for name in state if ".sam.pretrained." in name}
    assert pretrained == {name for name in base if name.startswith("blocks.")}
    for name in pretrained:
        assert state[name].equal(base[name])
    assert not any(name.startswith("blocks.") for name in cat_seg.tuned_from())


def moved(predictor):
    """As if it had been trained."""
    generator = torch.Generator().manual_seed(1)
    for parameter in predictor.model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator)
    return predictor


@pytest.mark.parametrize(
    ("method", "fields", "packed"),
    [
        (EscNetPredictor, dict(blocks=2), True),
        (EscNetPredictor, dict(blocks=1, prompts=("box",), pretrained_sam=False), False),
        (CatSegPredictor, dict(blocks=1), True),
    ],
    ids=["esc-net", "random-sam", "cat-seg"],
)
def test_a_bundle_brings_it_back(tiny, tmp_path, method, fields, packed):
    config = replace(method.design(TINY), **fields)
    predictor = moved(method.untrained(tiny, config))
    base = predictor.tuned_from() if packed else None
    save_bundle(tmp_path, predictor.bundle_config({}), predictor.model.trainable_state(), base)
    loaded = method.load(tiny, tmp_path)
    assert loaded.config == config
    tolerance = 5e-3 if packed else 1e-3
    for name, tensor in predictor.model.state_dict().items():
        if "point_embeddings.0" not in name and (packed or "prompt_encoder" not in name):
            torch.testing.assert_close(
                loaded.model.state_dict()[name], tensor, atol=tolerance, rtol=1e-3
            )
    found, expected = answer(loaded)[0].logits, answer(predictor)[0].logits
    np.testing.assert_allclose(found, expected, atol=0.1)


def test_a_foreign_bundle_is_refused(tiny, tmp_path):
    config = replace(CatSegPredictor.design(TINY), blocks=0)
    predictor = CatSegPredictor.untrained(tiny, config)
    save_bundle(tmp_path, predictor.bundle_config({}), predictor.model.trainable_state())
    with pytest.raises(WeightsError, match="was trained for method 'cat-seg', expected 'esc-net'"):
        EscNetPredictor.load(tiny, tmp_path)
    with pytest.raises(WeightsError, match="is not a bundle"):
        EscNetPredictor.load(tiny, tmp_path / "nowhere")


def test_designs():
    base, large = (EscNetPredictor.design(PRESETS[name]) for name in ("base", "base-clip-l"))
    assert (base.image_size, base.skip_layers, base.window) == (384, (4, 8), 12)
    assert (large.image_size, large.skip_layers, large.window) == (336, (8, 16), 12)
    tiny = EscNetPredictor.design(TINY)
    assert (tiny.image_size, tiny.skip_layers, tiny.window) == (256, (2, 4), 8)
    assert CatSegPredictor.design(TINY) == replace(tiny, use_sam=False)


def test_it_is_counted_on_no_device():
    with torch.device("meta"):
        preset = PRESETS["base"]
        networks = build_sam(preset.sam), build_clip(preset.clip)
        backbones = assemble(preset, *networks, device="meta")
        counts = count_parameters(EscNetPredictor.untrained(backbones))
    assert counts["total"] == 171_615_113
    assert counts["trainable"] < counts["total"] - 100_000_000
