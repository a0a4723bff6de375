"""Presets: which SAM and which CLIP, and what each of them sees."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from ..errors import PromptError
from ..geometry import Fit
from ..models.sizes import ClipSizes, FeatureNorm, SamConfig
from .published import (
    CLIP_VIT_B16,
    CLIP_VIT_L14,
    CLIP_VIT_L14_336,
    SAM2_BASE_PLUS,
    SAM2_LARGE,
    SAM2_SMALL,
    SAM2_TINY,
    SAM_VIT_B,
    SAM_VIT_H,
    SAM_VIT_L,
    PublishedWeights,
)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preparation:
    """How SAM and CLIP see an image: fields of :class:`Preset`, with its defaults."""

    fit: Fit = "pad"
    clip_mean: tuple[float, ...] = CLIP_MEAN
    clip_std: tuple[float, ...] = CLIP_STD
    clip_from_sam_input: bool = False
    feature_norm: FeatureNorm = "cosine"


REFERENCE_PREPARATION = Preparation(
    fit="squash",
    clip_mean=IMAGENET_MEAN,
    clip_std=IMAGENET_STD,
    clip_from_sam_input=True,
    feature_norm="reference",
)
"""That of the code of CLIP-Guided SAM's authors."""


@dataclass(frozen=True)
class Preset:
    """One SAM, one CLIP and the conventions that join them.

    Attributes:
        name: how the preset is called.
        title: one line for people.
        sam, clip: sizes of the two networks.
        sam_source, clip_source: where weights are published; ``None`` for the bundled.
        sam2_source: the SAM 2.1 that stands in for the SAM in pipelines that are built on one.
        fit: how an image is laid into SAM's square input.
        clip_mean, clip_std: normalisation of CLIP's input.
        clip_from_sam_input: CLIP sees SAM's prepared square, scaled down bilinearly and without
            antialiasing, as in the code of CLIP-Guided SAM's authors; otherwise the image itself.
        feature_norm: how CLIP's features are normalised before they meet the text.
        last_blocks: image-encoder blocks that CLIP-Guided SAM adapts; ``None`` adapts all.
    """

    name: str
    title: str
    sam: SamConfig
    clip: ClipSizes
    sam_source: PublishedWeights | None = None
    clip_source: PublishedWeights | None = None
    sam2_source: PublishedWeights = SAM2_BASE_PLUS
    fit: Fit = "pad"
    sam_mean: tuple[float, ...] = IMAGENET_MEAN
    sam_std: tuple[float, ...] = IMAGENET_STD
    clip_mean: tuple[float, ...] = CLIP_MEAN
    clip_std: tuple[float, ...] = CLIP_STD
    clip_from_sam_input: bool = False
    feature_norm: FeatureNorm = "cosine"
    last_blocks: int | None = None

    def __post_init__(self) -> None:
        if self.has_trunk:
            sam = self.sam.image_size, self.sam_mean, self.sam_std
            clip = self.clip.surgery_size, self.clip_mean, self.clip_std
            if self.fit != "squash" or sam != clip or not self.sam.trunk_strides:
                raise ValueError("networks that share a trunk should see the same square")
        if self.clip_from_sam_input and self.fit != "squash":
            raise ValueError("a CLIP that sees SAM's square needs one without padding")

    @property
    def preparation(self) -> Preparation:
        """How its networks see an image."""
        return Preparation(
            self.fit,
            self.clip_mean,
            self.clip_std,
            self.clip_from_sam_input,
            self.feature_norm,
        )

    @property
    def bundled(self) -> bool:
        """Whether its weights come with the project: small networks, trained here."""
        return not self.sources

    @property
    def has_trunk(self) -> bool:
        """Whether SAM and CLIP share a frozen convolutional trunk as their stem."""
        return bool(self.clip.trunk_strides)

    @property
    def sources(self) -> tuple[PublishedWeights, ...]:
        """Where its SAM and CLIP are published; empty for the bundled."""
        return tuple(one for one in (self.sam_source, self.clip_source) if one is not None)


VIT_B = SamConfig()
VIT_L = SamConfig(embed_dim=1024, depth=24, num_heads=16, global_blocks=(5, 11, 17, 23))
VIT_H = SamConfig(embed_dim=1280, depth=32, num_heads=16, global_blocks=(7, 15, 23, 31))
CLIP_B16 = ClipSizes()
CLIP_L14 = ClipSizes(  # the one trained at 336 pixels, as in ESC-Net
    image_size=336,
    surgery_size=448,
    patch_size=14,
    projection_dim=768,
    vision_width=1024,
    vision_layers=24,
    vision_heads=16,
    text_width=768,
    text_heads=12,
)

TINY = Preset(
    name="tiny",
    title="Tiny demonstration models, bundled: everything works offline in seconds",
    sam=SamConfig(
        image_size=256,
        embed_dim=192,
        depth=6,
        num_heads=3,
        global_blocks=(2, 5),
        window_size=8,
    ),
    clip=ClipSizes(
        image_size=256,
        surgery_size=256,
        projection_dim=192,
        vision_width=192,
        vision_layers=6,
        vision_heads=3,
        text_width=192,
        text_layers=3,
        text_heads=3,
        vocab_size=1024,
        context_length=40,
        surgery_layers=3,
    ),
    sam2_source=SAM2_TINY,
    last_blocks=4,
)

HALF = 127 / 255, 128 / 255
"""Mean and standard deviation of what the bundled trunk sees: (x - 127) / 128."""

HYBRID = Preset(
    name="hybrid",
    title="Small demonstration models, bundled: everything works offline in seconds",
    sam=SamConfig(
        image_size=512,
        embed_dim=192,
        depth=4,
        num_heads=6,
        global_blocks=(1, 3),
        window_size=8,
        trunk_strides=(4, 8, 16, 32),
    ),
    clip=ClipSizes(
        image_size=512,
        surgery_size=512,
        patch_size=32,
        projection_dim=384,
        vision_width=384,
        vision_layers=3,
        vision_heads=6,
        text_width=384,
        text_layers=6,
        text_heads=12,
        vocab_size=30522,
        context_length=64,
        surgery_layers=1,
        trunk_strides=(16, 32),
        text_tower="sentence",
    ),
    sam2_source=SAM2_TINY,
    fit="squash",
    sam_mean=HALF[:1] * 3,
    sam_std=HALF[1:] * 3,
    clip_mean=HALF[:1] * 3,
    clip_std=HALF[1:] * 3,
    last_blocks=2,
)
"""What the bundled preset becomes: its parts are trained one after the other, and it takes the
place of :data:`TINY`, and its name, once every method's is there. Until then nothing lists it."""

BASE = Preset(
    name="base",
    title="SAM ViT-B with CLIP ViT-B/16",
    sam=VIT_B,
    clip=CLIP_B16,
    sam_source=SAM_VIT_B,
    clip_source=CLIP_VIT_B16,
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        TINY,
        BASE,
        replace(
            BASE,
            name="base-reference",
            title="The same, seeing images as the code of CLIP-Guided SAM's authors does",
            **asdict(REFERENCE_PREPARATION),
        ),
        replace(
            BASE,
            name="base-sam2-small",
            title="The same, with the small SAM 2.1 where a SAM 2 is asked",
            sam2_source=SAM2_SMALL,
        ),
        Preset(
            name="base-clip-l",
            title="SAM ViT-B with CLIP ViT-L/14@336",
            sam=VIT_B,
            clip=CLIP_L14,
            sam_source=SAM_VIT_B,
            clip_source=CLIP_VIT_L14_336,
        ),
        Preset(
            name="base-clip-l-224",
            title="SAM ViT-B with CLIP ViT-L/14",
            sam=VIT_B,
            clip=replace(CLIP_L14, image_size=224),
            sam_source=SAM_VIT_B,
            clip_source=CLIP_VIT_L14,
        ),
        Preset(
            name="large-sam",
            title="SAM ViT-L with CLIP ViT-B/16",
            sam=VIT_L,
            clip=CLIP_B16,
            sam_source=SAM_VIT_L,
            clip_source=CLIP_VIT_B16,
            sam2_source=SAM2_LARGE,
        ),
        Preset(
            name="huge-sam",
            title="SAM ViT-H with CLIP ViT-B/16",
            sam=VIT_H,
            clip=CLIP_B16,
            sam_source=SAM_VIT_H,
            clip_source=CLIP_VIT_B16,
            sam2_source=SAM2_LARGE,
        ),
    )
}


def find_preset(preset: str) -> Preset:
    """Return the preset with a name.

    Raises:
        PromptError: there is none with that name.
    """
    if preset not in PRESETS:
        raise PromptError(f"There is no preset “{preset}”: choose from {', '.join(PRESETS)}.")
    return PRESETS[preset]
