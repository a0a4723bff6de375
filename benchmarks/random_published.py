"""Networks of random weights at their published sizes and in their published formats.

They cost what the real ones cost, and take the same way into memory; they know nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from string import punctuation

import torch
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    PreTrainedModel,
    Sam2HieraDetConfig,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VisionConfig,
    Sam3Config,
    Sam3LiteTextConfig,
    Sam3LiteTextModel,
    Sam3Model,
    ViTImageProcessor,
)

from clipsam.models.sam_model import build_sam
from clipsam.weights.convert import sam_to_transformers
from clipsam.weights.presets import PRESETS
from clipsam.weights.published import (
    CLIPSEG,
    GROUNDING_DINO,
    OWLV2,
    SAM3,
    SAM3_LITETEXT,
    PublishedWeights,
)

BASE = PRESETS["base"]
START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_TOKENS, BERT_TOKENS = 49408, 30522


def write_base(home: Path) -> None:
    """Write all networks that methods need with the preset ``base``, as if the user provided them.

    Args:
        home: ``HF_HOME``.
    """
    torch.manual_seed(0)
    place = home / "clipsam"
    sam = sam_to_transformers(build_sam(BASE.sam).state_dict())
    folder = _folder(place, BASE.sam_source)
    save_file(
        {name: tensor.contiguous() for name, tensor in sam.items()}, folder / "model.safetensors"
    )
    clip = CLIPConfig(
        projection_dim=BASE.clip.projection_dim,
        vision_config=dict(patch_size=BASE.clip.patch_size, image_size=BASE.clip.image_size),
    )
    _write(place, BASE.clip_source, CLIPModel(clip), bpe=True)
    _write(place, BASE.sam2_source, Sam2VideoModel(_sam2_base_plus()))
    _write(place, GROUNDING_DINO, GroundingDinoForObjectDetection(GroundingDinoConfig()))
    folder = _folder(place, GROUNDING_DINO)
    GroundingDinoImageProcessor().save_pretrained(folder)
    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", *(f"[unused{index}]" for index in range(99))]
    words += ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [f"[unused{index}]" for index in range(99, 994)]
    words += sorted({*punctuation, *letters})  # from 999 on, as in BERT's
    words += [f"##{letter}" for letter in letters]
    words += [f"[unused{index}]" for index in range(994, 994 + BERT_TOKENS - len(words))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    owl = Owlv2Config(vision_config=dict(image_size=960, patch_size=16))
    _write(place, OWLV2, Owlv2ForObjectDetection(owl), bpe=True)
    Owlv2ImageProcessor().save_pretrained(_folder(place, OWLV2))
    seg = CLIPSegConfig(vision_config=dict(patch_size=16), use_complex_transposed_convolution=True)
    _write(place, CLIPSEG, CLIPSegForImageSegmentation(seg), bpe=True)
    side = dict(size={"height": 352, "width": 352})
    ViTImageProcessor(**side).save_pretrained(_folder(place, CLIPSEG))
    _write(place, SAM3, Sam3Model(Sam3Config()), bpe=True)
    lite = Sam3LiteTextConfig(text_config=dict(num_hidden_layers=6))
    _write(place, SAM3_LITETEXT, Sam3LiteTextModel(lite), bpe=True)
    folder = _folder(place, SAM3_LITETEXT)
    CLIPTokenizer.from_pretrained(folder, local_files_only=True).save_pretrained(folder)


def _sam2_base_plus() -> Sam2VideoConfig:
    """Convert as transformers does for ``sam2.1_hiera_base_plus.pt``."""
    backbone = Sam2HieraDetConfig(
        hidden_size=112,
        embed_dim_per_stage=[112, 224, 448, 896],
        num_attention_heads_per_stage=[2, 4, 8, 16],
        blocks_per_stage=[2, 3, 16, 3],
        global_attention_blocks=[12, 16, 20],
        window_positional_embedding_background_size=[14, 14],
    )
    vision = Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=[896, 448, 224, 112])
    return Sam2VideoConfig(vision_config=vision)


def _folder(place: Path, published: PublishedWeights) -> Path:
    folder = place / published.repo
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(
    place: Path, published: PublishedWeights, network: PreTrainedModel, bpe: bool = False
) -> None:
    folder = _folder(place, published)
    network.save_pretrained(folder)
    if not bpe:
        return
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [f"unused{index}" for index in range(CLIP_TOKENS - 2 - len(tokens))]
    vocabulary = {token: index for index, token in enumerate((*tokens, START, END))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
