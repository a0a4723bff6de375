"""Published networks: their repositories and files."""

from __future__ import annotations

from dataclasses import dataclass

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Files with a repository's weights in transformers' naming, in order of preference.

Not every repository has the safe format; the other is only ever read as tensors, never as code.
"""


@dataclass(frozen=True)
class PublishedWeights:
    """One published network.

    Attributes:
        repo: on the hub, ``owner/name``; holds one of :data:`WEIGHTS`.
        megabytes: size of its weights in float32, shown before a download.
        licence: of the weights.
        extras: other required files, by name in the repository.
        checkpoint: the authors' own file, accepted instead of the repository's weights;
            the part of its name after the last ``_`` is the start of its SHA-256.
        gated: whether its terms must be accepted on the hub before a download.
    """

    repo: str
    megabytes: int
    licence: str
    extras: tuple[str, ...] = ()
    checkpoint: str | None = None
    gated: bool = False


APACHE, MIT = "Apache-2.0", "MIT"
CLIP_EXTRAS = ("config.json", "vocab.json", "merges.txt")

SAM_VIT_B = PublishedWeights(
    "facebook/sam-vit-base", 375, APACHE, checkpoint="sam_vit_b_01ec64.pth"
)
SAM_VIT_L = PublishedWeights(
    "facebook/sam-vit-large", 1249, APACHE, checkpoint="sam_vit_l_0b3195.pth"
)
SAM_VIT_H = PublishedWeights(
    "facebook/sam-vit-huge", 2564, APACHE, checkpoint="sam_vit_h_4b8939.pth"
)
CLIP_VIT_B16 = PublishedWeights("openai/clip-vit-base-patch16", 599, MIT, CLIP_EXTRAS)
CLIP_VIT_L14 = PublishedWeights("openai/clip-vit-large-patch14", 1711, MIT, CLIP_EXTRAS)
CLIP_VIT_L14_336 = PublishedWeights("openai/clip-vit-large-patch14-336", 1712, MIT, CLIP_EXTRAS)

SAM2_TINY = PublishedWeights("facebook/sam2.1-hiera-tiny", 156, APACHE, ("config.json",))
SAM2_SMALL = PublishedWeights("facebook/sam2.1-hiera-small", 184, APACHE, ("config.json",))
SAM2_BASE_PLUS = PublishedWeights("facebook/sam2.1-hiera-base-plus", 323, APACHE, ("config.json",))
SAM2_LARGE = PublishedWeights("facebook/sam2.1-hiera-large", 898, APACHE, ("config.json",))

GROUNDING_DINO = PublishedWeights(
    "IDEA-Research/grounding-dino-tiny",
    689,
    APACHE,
    ("config.json", "preprocessor_config.json", "vocab.txt"),
)
OWLV2 = PublishedWeights(
    "google/owlv2-base-patch16-ensemble",
    620,
    APACHE,
    (*CLIP_EXTRAS, "preprocessor_config.json"),
)
CLIPSEG = PublishedWeights(
    "CIDAS/clipseg-rd64-refined", 603, APACHE, (*CLIP_EXTRAS, "preprocessor_config.json")
)
SAM_LICENSE = "SAM License"
SAM3 = PublishedWeights("facebook/sam3", 3440, SAM_LICENSE, CLIP_EXTRAS, gated=True)
# The size is that with the six layers of MobileCLIP-S0's text tower, not read from the file.
SAM3_LITETEXT = PublishedWeights(
    "vil-uob/sam3-litetext-s0",
    2117,
    SAM_LICENSE,
    ("config.json", "tokenizer.json", "tokenizer_config.json"),
)
