"""SAM 2.1 as transformers publishes it and ours compute the same numbers, in both directions."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2Model,
    Sam2PromptEncoderConfig,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VisionConfig,
)

from clipsam.models.sam2_model import Sam2Config as OurConfig
from clipsam.models.sam2_model import Sam2Image, build_sam2, decode_masks, embed
from clipsam.weights.bundle import WeightsError
from clipsam.weights.convert import sam2_from_transformers, sam2_to_transformers
from clipsam.weights.local_files import LocalFiles
from clipsam.weights.pretrained import read_sam2, read_sam2_config
from tests.conftest import randomize
from tests.standins.sam2 import SMALL, published, vision_config, with_noise
from tests.weights.conftest import SMALL_SAM, transformers_sam

close = partial(torch.testing.assert_close, rtol=0, atol=1e-4)

TINY = OurConfig()
SIZES = [SMALL, pytest.param(TINY, marks=pytest.mark.slow)]

PUBLISHED = {
    "tiny": ({}, {}, TINY),
    "small": (
        dict(blocks_per_stage=[1, 2, 11, 2], global_attention_blocks=[7, 10, 13]),
        {},
        OurConfig(stages=(1, 2, 11, 2), global_att_blocks=(7, 10, 13)),
    ),
    "base-plus": (
        dict(
            hidden_size=112,
            embed_dim_per_stage=[112, 224, 448, 896],
            num_attention_heads_per_stage=[2, 4, 8, 16],
            blocks_per_stage=[2, 3, 16, 3],
            global_attention_blocks=[12, 16, 20],
            window_positional_embedding_background_size=[14, 14],
        ),
        dict(backbone_channel_list=[896, 448, 224, 112]),
        OurConfig(
            embed_dim=112,
            num_heads=2,
            stages=(2, 3, 16, 3),
            global_att_blocks=(12, 16, 20),
            window_pos_embed_bkg_spatial_size=(14, 14),
        ),
    ),
    "large": (
        dict(
            hidden_size=144,
            embed_dim_per_stage=[144, 288, 576, 1152],
            num_attention_heads_per_stage=[2, 4, 8, 16],
            blocks_per_stage=[2, 6, 36, 4],
            global_attention_blocks=[23, 33, 43],
            window_size_per_stage=[8, 4, 16, 8],
        ),
        dict(backbone_channel_list=[1152, 576, 288, 144]),
        OurConfig(
            embed_dim=144,
            num_heads=2,
            stages=(2, 6, 36, 4),
            global_att_blocks=(23, 33, 43),
            window_spec=(8, 4, 16, 8),
        ),
    ),
}
"""Per size what transformers' conversion script gives the backbone and the neck, and our sizes."""


def published_for_images(sizes: OurConfig, seed: int = 0) -> Sam2Model:
    """The image model of random weights, as ``Sam2Model.save_pretrained`` writes it."""
    torch.manual_seed(seed)
    config = Sam2Config(
        vision_config=vision_config(sizes),
        prompt_encoder_config=Sam2PromptEncoderConfig(image_size=sizes.image_size),
    )
    return with_noise(Sam2Model(config), seed)


def saved(network: Sam2Model | Sam2VideoModel, folder: Path) -> LocalFiles:
    network.save_pretrained(folder)
    return LocalFiles(folder / "model.safetensors", {"config.json": folder / "config.json"})


def assert_same(ours: Sam2Image, theirs: Sam2Model) -> None:
    """Features, low-resolution masks and IoU of all four masks, for every kind of prompt."""
    side = ours.config.image_size
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(1, 3, side, side, generator=generator)
    features = embed(ours, pixels)
    expected = theirs.get_image_embeddings(pixels)
    for mine, reference in zip(features, (expected[2], *expected[:2]), strict=True):
        close(mine, reference)
        assert mine.std() > 0.1
    count = 2
    points = torch.rand(count, 3, 2, generator=generator) * side
    labels = torch.tensor([[1, 0, 1], [0, 1, -1]])
    boxes = torch.rand(count, 2, 2, generator=generator).sort(dim=1).values.flatten(1) * side
    dense = 5 * torch.randn(1, 1, side // 4, side // 4, generator=generator)
    all_of = {
        "points": dict(input_points=points[None], input_labels=labels[None]),
        "boxes": dict(input_boxes=boxes[None]),
        "dense": dict(input_masks=dense),
    }
    ours_of = {"points": (points, labels), "boxes": boxes, "dense": dense}
    for kinds in (["points"], ["boxes"], ["points", "boxes"], ["points", "dense"]):
        given = {kind: ours_of[kind] for kind in kinds}
        mine, scores = decode_masks(ours, features[0], features[1:], **given)
        for multimask, kept in ((True, slice(1, 4)), (False, slice(0, 1))):
            output = theirs(
                image_embeddings=expected,
                multimask_output=multimask,
                **{name: value for kind in kinds for name, value in all_of[kind].items()},
            )
            close(mine[:, kept], output.pred_masks[0])
            close(scores[:, kept], output.iou_scores[0])
        assert mine.std() > 0.1 and scores.std() > 1e-3


@pytest.mark.parametrize("sizes", SIZES, ids=["small", "tiny"])
def test_as_published(sizes, tmp_path):
    """The video model's files, which transformers' image model reads too."""
    files = saved(published(sizes), tmp_path)
    assert any(name.startswith("memory_attention.") for name in load_file(files.weights))
    ours = read_sam2(files)
    assert ours.config == sizes
    assert not ours.training and not any(p.requires_grad for p in ours.parameters())
    assert_same(ours, Sam2Model.from_pretrained(tmp_path).eval())


def test_as_the_image_model_saves_itself(tmp_path):
    network = published_for_images(SMALL)
    assert_same(read_sam2(saved(network, tmp_path)), network)


@pytest.mark.parametrize("sizes", SIZES, ids=["small", "tiny"])
def test_ours_by_transformers_names(sizes):
    torch.manual_seed(7)
    ours = build_sam2(sizes)
    randomize(ours, seed=7)
    theirs = published_for_images(sizes, seed=5)
    theirs.load_state_dict(sam2_to_transformers(ours.state_dict()))
    assert_same(ours.eval().requires_grad_(False), theirs)


def test_names_there_and_back():
    state = build_sam2(SMALL).state_dict()
    back = sam2_from_transformers(sam2_to_transformers(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes(size, tmp_path):
    """From the published configuration, our network has the parameters of transformers'."""
    backbone, neck, expected = PUBLISHED[size]
    vision = Sam2VisionConfig(backbone_config=Sam2HieraDetConfig(**backbone), **neck)
    Sam2VideoConfig(vision_config=vision).to_json_file(tmp_path / "config.json")
    found = read_sam2_config(tmp_path / "config.json")
    assert found == expected
    with torch.device("meta"):
        theirs = Sam2Model(Sam2Config(vision_config=vision)).state_dict()
    ours = sam2_to_transformers(build_sam2(found).state_dict())
    shapes = {name: tensor.shape for name, tensor in ours.items()}
    assert shapes == {name: tensor.shape for name, tensor in theirs.items()}


@pytest.mark.parametrize("kind", ["sam2", "sam2_video"])
def test_what_a_configuration_leaves_out_is_the_default(kind, tmp_path):
    """Also within a part; and what only the video model reads may be anything."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": kind, "memory_attention_rope_theta": 10000}))
    assert read_sam2_config(path) == TINY
    backbone = {"blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]}
    vision = {"backbone_config": backbone}
    path.write_text(json.dumps({"model_type": kind, "vision_config": vision}))
    assert read_sam2_config(path) == PUBLISHED["small"][2]


@pytest.fixture
def files(tmp_path) -> LocalFiles:
    """Whole files of a small image model."""
    return saved(published_for_images(SMALL), tmp_path)


POSITIONS = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)


@pytest.mark.parametrize("left_out", POSITIONS)
def test_positions_under_one_name(files, left_out):
    expected = read_sam2(files).state_dict()
    state = load_file(files.weights)
    del state[left_out]
    save_file(state, files.weights)
    found = read_sam2(files).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def refused(files: LocalFiles, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        read_sam2(files)


def test_other_weights(files, tmp_path):
    whole = files.weights.read_bytes()
    files.weights.write_bytes(whole[: len(whole) // 2])
    refused(files, r"model\.safetensors is a damaged or incomplete safetensors file")
    files.weights.write_bytes(whole)
    state = load_file(files.weights)
    save_file({**state, "vision_encoder.neck.extra": torch.zeros(1)}, files.weights)
    refused(files, r"contains image_encoder\.neck\.extra \(of 1\), which does not fit")
    save_file({n: t for n, t in state.items() if ".conv_s0." not in n}, files.weights)
    refused(files, r"lacks sam_mask_decoder\.conv_s0\.bias \(of 2\)")
    save_file({**state, "no_memory_embedding": torch.zeros(1, 1, 8)}, files.weights)
    refused(files, r"expected no_mem_embed of shape \(1, 1, 256\), got \(1, 1, 8\)")
    save_file(state, files.weights)
    content = json.loads(files.extras["config.json"].read_text())
    content["vision_config"]["backbone_config"]["blocks_per_stage"] = [1, 2, 3, 2]
    longer = tmp_path / "longer.json"
    longer.write_text(json.dumps(content))
    refused(LocalFiles(files.weights, {"config.json": longer}), r"lacks image_.*\.blocks\.7\.")
    transformers_sam(SMALL_SAM).save_pretrained(tmp_path / "sam")
    other = LocalFiles(tmp_path / "sam/model.safetensors", files.extras)
    refused(other, r"sam/model\.safetensors contains .*, which does not fit")
    with_own = LocalFiles(other.weights, {"config.json": tmp_path / "sam/config.json"})
    refused(with_own, r"config\.json: expected model_type sam2_video or sam2, got sam$")


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"model_type": "sam2"', "\xff", '{"model_type": "sam2", "vision_config": 3}'],
)
def test_no_configuration(files, content):
    path = files.extras["config.json"]
    path.write_text(content, encoding="latin-1")
    refused(files, r"config\.json is not a configuration of SAM 2 \(")
    path.unlink()
    refused(files, r"config\.json is not a configuration of SAM 2 \(.*No such file")


@pytest.mark.parametrize(
    ("part", "name", "value", "words"),
    [
        (
            "backbone_config",
            "model_type",
            "timm_wrapper",
            "sam2_hiera_det_model, got timm",
        ),
        ("backbone_config", "num_query_pool_stages", 2, "3, got 2"),
        ("backbone_config", "patch_stride", [2, 2], r"\[4, 4\], got \[2, 2\]"),
        (
            "backbone_config",
            "num_attention_heads_per_stage",
            [1, 2, 2, 2],
            r"expected .*\[1, 2, 4, 8\], got",
        ),
        ("backbone_config", "num_attention_heads_per_stage", [], "is not a configuration of SAM 2"),
        ("backbone_config", "window_size_per_stage", [8, 4, 7], "4, got 3"),
        ("backbone_config", "blocks_per_stage", ["a"], "is not a configuration of SAM 2"),
        ("backbone_config", "layer_norm_eps", 1e-5, "1e-06, got 1e-05"),
        ("vision_config", "fpn_top_down_levels", [1, 2, 3], r"\[2, 3\], got \[1, 2, 3\]"),
        (
            "prompt_encoder_config",
            "image_size",
            256,
            r"expected .*backbone_feature_sizes \[\[64, 64",
        ),
        ("prompt_encoder_config", "image_size", [128, 128], "is not a configuration of SAM 2"),
        ("mask_decoder_config", "num_attention_heads", 4, "8, got 4"),
        (
            "mask_decoder_config",
            "dynamic_multimask_via_stability",
            False,
            "True, got False",
        ),
    ],
)
def test_not_as_published(files, part, name, value, words):
    path = files.extras["config.json"]
    content = json.loads(path.read_text())
    place = content["vision_config"] if part == "backbone_config" else content
    place[part][name] = value
    path.write_text(json.dumps(content))
    refused(files, rf"config\.json.*{words}")
