"""SAM 2.1 for images against the sam2 package: its builder, its predictor, its checkpoints."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sam2 import build_sam as package
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_image_predictor import SAM2ImagePredictor
from torch import Tensor

from clipsam.data.images import open_image
from clipsam.geometry import SquareTransform, normalize
from clipsam.models.sam2_model import Sam2Config, build_sam2, decode_masks, embed
from clipsam.weights.presets import IMAGENET_MEAN, IMAGENET_STD
from tests.conftest import randomize

close = partial(torch.testing.assert_close, rtol=0, atol=1e-4)

TINY = Sam2Config()
SMALL = Sam2Config(
    image_size=256,
    embed_dim=16,
    stages=(1, 2, 3, 1),
    global_att_blocks=(4,),
    window_spec=(8, 4, 7, 3),
    window_pos_embed_bkg_spatial_size=(5, 5),
)
"""Windows of the last two stages need padding."""

SIZES = [SMALL, pytest.param(TINY, marks=pytest.mark.slow)]

PUBLISHED = {
    "t": TINY,
    "s": Sam2Config(stages=(1, 2, 11, 2), global_att_blocks=(7, 10, 13)),
    "b+": Sam2Config(
        embed_dim=112,
        num_heads=2,
        stages=(2, 3, 16, 3),
        global_att_blocks=(12, 16, 20),
        window_pos_embed_bkg_spatial_size=(14, 14),
    ),
    "l": Sam2Config(
        embed_dim=144,
        num_heads=2,
        stages=(2, 6, 36, 4),
        global_att_blocks=(23, 33, 43),
        window_spec=(8, 4, 16, 8),
    ),
}
SIZE = (171, 240)
"""(height, width) of the picture, pixels."""

Given = dict[str, np.ndarray]
"""Prompts by the names of ``SAM2ImagePredictor.predict``, all with a first axis of objects."""

VIDEO = ("memory_", "maskmem_", "mask_downsample.", "no_mem_pos_enc", "no_obj_", "obj_ptr_")
"""Starts of the names of what the package's network needs for videos alone."""


def theirs(config: Sam2Config, size: str = "t") -> SAM2Base:
    """The package's video network of these sizes, from one of its own configurations.

    Its random weights are such that a single mask wavers unless its logits are made larger.
    """
    torch.manual_seed(1)
    trunk = "model.image_encoder.trunk"
    channels = [config.embed_dim * 2**stage for stage in (3, 2, 1, 0)]
    background = list(config.window_pos_embed_bkg_spatial_size)
    changes = {
        "model.image_size": config.image_size,
        f"{trunk}.embed_dim": config.embed_dim,
        f"{trunk}.num_heads": config.num_heads,
        f"{trunk}.stages": list(config.stages),
        f"{trunk}.global_att_blocks": list(config.global_att_blocks),
        f"{trunk}.window_spec": list(config.window_spec),
        f"{trunk}.window_pos_embed_bkg_spatial_size": background,
        "model.image_encoder.neck.backbone_channel_list": channels,
    }
    return package.build_sam2(
        f"configs/sam2.1/sam2.1_hiera_{size}.yaml",
        device="cpu",
        hydra_overrides_extra=[f"++{name}={value}" for name, value in changes.items()],
    )


@pytest.mark.parametrize("size", PUBLISHED)
def test_names_and_shapes_of_the_published_sizes(size):
    """Everything of the package's network is ours but for the parts that only videos need."""
    network = package.build_sam2(f"configs/sam2.1/sam2.1_hiera_{size}.yaml", device="cpu")
    expected = {
        name: tensor.shape
        for name, tensor in network.state_dict().items()
        if not name.startswith(VIDEO)
    }
    ours = build_sam2(PUBLISHED[size]).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == expected
    trunk, ours_trunk = network.image_encoder.trunk, build_sam2(PUBLISHED[size]).image_encoder.trunk
    for block, expected in zip(ours_trunk.blocks, trunk.blocks, strict=True):
        # What shapes do not show.
        assert (block.window_size, block.q_stride) == (expected.window_size, expected.q_stride)
        assert block.attn.num_heads == expected.attn.num_heads


class Pair:
    """The package's predictor and our network with the same weights; both know one picture."""

    def __init__(self, config: Sam2Config, image: np.ndarray, certainty: float = 1) -> None:
        """
        Args:
            config: sizes.
            image: uint8 (H, W, 3).
            certainty: factor on the single mask's logits; where they are small, SAM 2 wavers.
        """
        network = theirs(config)
        randomize(network, seed=1)
        head = network.sam_mask_decoder.output_hypernetworks_mlps[0].layers[2]
        head.weight.data *= certainty
        head.bias.data *= certainty
        self.predictor = SAM2ImagePredictor(network)
        sides = (config.mask_side // divisor for divisor in (1, 2, 4))
        self.predictor._bb_feat_sizes = [(side, side) for side in sides]
        self.ours = build_sam2(config).eval().requires_grad_(False)
        state = network.state_dict()
        self.ours.load_state_dict({k: v for k, v in state.items() if not k.startswith(VIDEO)})
        self.size = image.shape[:2]
        self.square = SquareTransform(self.size, config.image_size, "squash")
        self.predictor.set_image(image)
        self.features = embed(self.ours, self.predictor._transforms(image)[None])

    def decode(self, given: Given, features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Our logits and IoU for prompts in pixels of the picture."""
        points = boxes = None
        if "point_coords" in given:
            coordinates = torch.from_numpy(self.square.coordinates(given["point_coords"]))
            points = coordinates, torch.from_numpy(given["point_labels"])
        if "box" in given:
            corners = self.square.coordinates(given["box"].reshape(-1, 2, 2))
            boxes = torch.from_numpy(corners).flatten(1)
        dense = torch.from_numpy(given["mask_input"]) if "mask_input" in given else None
        return decode_masks(self.ours, features[0], features[1:], points, boxes, dense)

    def assert_same(self, given: Given, relative: float = 0) -> None:
        """Low-resolution logits, logits on the picture, and IoU of all four masks."""
        logits, scores = self.decode(given, self.features)
        for multimask, kept in ((True, slice(1, 4)), (False, slice(0, 1))):
            masks, expected_scores, low = self.predictor.predict(
                **given, multimask_output=multimask, return_logits=True
            )
            mine = logits[:, kept]
            on_picture = F.interpolate(mine, self.size, mode="bilinear", align_corners=False)
            for found, expected in (
                (mine.clamp(-32, 32), low),  # as the predictor gives them out for the next round
                (on_picture, masks),
                (scores[:, kept], expected_scores),
            ):
                reference = torch.from_numpy(expected).view(found.shape)
                close(found, reference, rtol=relative)
        assert logits.std() > 0.1 and scores.std() > 1e-3


def some_prompts(kind: str, count: int, mask_side: int) -> Given:
    """What ``SAM2ImagePredictor.predict`` takes, for ``count`` objects at once."""
    rng = np.random.default_rng(2)
    size = np.array(SIZE[::-1])
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)) * size, axis=1)
    everything = {
        "point_coords": (rng.uniform(0, 1, (count, 3, 2)) * size).astype(np.float32),
        "point_labels": rng.integers(0, 2, (count, 3)),
        "box": corners.reshape(count, 4).astype(np.float32),
        "mask_input": rng.normal(0, 5, (count, 1, mask_side, mask_side)).astype(np.float32),
    }
    return {name: value for name, value in everything.items() if name.split("_")[0] in kind}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A picture that is no square, of ramps, a disc and noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    disc = 200 * ((rows - 80) ** 2 + (columns - 90) ** 2 < 2500)
    noise = rng.integers(0, 40, (*SIZE, 3))
    return (np.stack((rows, columns, disc), axis=-1) + noise).astype(np.uint8)


@pytest.fixture(scope="module", params=SIZES, ids=["small", "tiny"])
def pair(request, image) -> Pair:
    return Pair(request.param, image)


def test_features(pair):
    theirs = pair.predictor._features
    expected = (theirs["image_embed"], *theirs["high_res_feats"])
    side = pair.ours.config.image_size
    assert [tuple(map_.shape) for map_ in pair.features] == [
        (1, 256, side // 16, side // 16),
        (1, 32, side // 4, side // 4),
        (1, 64, side // 8, side // 8),
    ]
    for mine, reference in zip(pair.features, expected, strict=True):
        close(mine, reference)
        assert mine.std() > 0.1


KINDS = ["point", "box", "mask", "box+point", "box+mask", "point+mask", "box+point+mask"]


@pytest.mark.parametrize("kind", [*KINDS, "nothing"])
def test_one_object_as_the_predictor(pair, kind):
    pair.assert_same(some_prompts(kind, 1, pair.ours.config.mask_side))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mask"])
def test_many_objects_on_one_image_as_the_predictor(pair, kind):
    """Not from masks alone: the predictor cannot."""
    pair.assert_same(some_prompts(kind, 3, pair.ours.config.mask_side))


def test_padding_as_the_predictor(pair):
    given = some_prompts("point", 2, pair.ours.config.mask_side)
    given["point_labels"][:, 1] = -1
    pair.assert_same(given)


@pytest.mark.parametrize("certainty", [1, 50])
def test_a_wavering_single_mask_gives_way_to_the_best_candidate(image, certainty):
    """Where it is stable it is the single mask token's own."""
    pair = Pair(SMALL, image, certainty)
    given = some_prompts("point", 3, SMALL.mask_side)
    pair.assert_same(given, relative=1e-5)
    logits, scores = pair.decode(given, pair.features)
    best = logits[torch.arange(3), 1 + scores[:, 1:].argmax(1)]
    assert torch.equal(logits[:, 0], best) == (certainty == 1)
    assert torch.equal(scores[:, 0], scores[:, 1:].amax(1)) == (certainty == 1)


def test_every_prompt_on_its_own_image(pair, image):
    """Against the predictor, one image after the other; also one prompt on both images."""
    given = some_prompts("box+point", 2, pair.ours.config.mask_side)
    images = (image, image[::-1].copy())
    pixels = torch.stack([pair.predictor._transforms(one) for one in images])
    features = embed(pair.ours, pixels)
    logits, _ = pair.decode(given, features)
    first = {name: value[:1] for name, value in given.items()}
    repeated, _ = pair.decode(first, features)
    predictor = SAM2ImagePredictor(pair.predictor.model)
    predictor._bb_feat_sizes = pair.predictor._bb_feat_sizes
    for index, one in enumerate(images):
        predictor.set_image(one)
        for found, part in ((logits, slice(index, index + 1)), (repeated, slice(0, 1))):
            prompt = {name: value[part] for name, value in given.items()}
            _, _, low = predictor.predict(**prompt)
            close(found[index, 1:].clamp(-32, 32), torch.from_numpy(low))


@pytest.mark.parametrize("config", SIZES, ids=["small", "tiny"])
def test_our_resizing_is_the_packages_up_to_rounding(config, photographs):
    """We resize whole levels by PIL as everywhere, the package real numbers by torchvision."""
    photograph = open_image(min((photographs / "coco100/val2017").glob("*.jpg")))
    pair = Pair(config, photograph)
    resized = torch.from_numpy(pair.square.image(photograph)).permute(2, 0, 1)[None]
    pixels = normalize(resized, IMAGENET_MEAN, IMAGENET_STD)
    expected = pair.predictor._transforms(photograph)[None]
    levels = (pixels - expected).abs() * 255 * torch.tensor(IMAGENET_STD).view(3, 1, 1)
    assert levels.max() < 1.5 and levels.mean() < 0.4
    given = some_prompts("point", 3, config.mask_side)
    mine, _ = pair.decode(given, embed(pair.ours, pixels))
    package, _ = pair.decode(given, pair.features)
    assert ((mine > 0) == (package > 0)).float().mean() > 0.99
