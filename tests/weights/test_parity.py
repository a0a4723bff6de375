"""Published formats and ours compute the same numbers, in both directions."""

from __future__ import annotations

import hashlib
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from segment_anything.build_sam import _build_sam
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer, SamModel

from clipsam.models.clip import SurgeryVision, build_clip, encode_text
from clipsam.models.sam_model import build_sam, decode_masks
from clipsam.models.sizes import SamConfig
from clipsam.weights.bundle import WeightsError
from clipsam.weights.convert import sam_to_transformers
from clipsam.weights.files import check_named_hash
from clipsam.weights.local_files import LocalFiles
from clipsam.weights.presets import VIT_B
from clipsam.weights.pretrained import read_clip, read_clip_tokenizer, read_sam
from tests.weights.conftest import SMALL, SMALL_CLIP, SMALL_SAM, transformers_sam

close = partial(torch.testing.assert_close, rtol=0, atol=1e-4)
SIZES = [SMALL_SAM, pytest.param(VIT_B, marks=pytest.mark.slow)]


def load_ours(weights: Path, sizes: SamConfig) -> nn.Module:
    sam = build_sam(sizes).eval().requires_grad_(False)
    sam.load_state_dict(read_sam(LocalFiles(weights), sizes))
    return sam


def asked(sizes: SamConfig) -> tuple[Tensor, Tensor, Tensor]:
    """An image, a foreground and a background point, and their labels."""
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(1, 3, sizes.image_size, sizes.image_size, generator=generator)
    points = torch.tensor([[[0.3, 0.6], [0.7, 0.2]]]) * sizes.image_size
    return image, points, torch.tensor([[1, 0]])


def assert_same_sam(sam: nn.Module, published: SamModel, sizes: SamConfig) -> None:
    """Image embedding, low-resolution masks and scores of all four mask tokens."""
    image, points, labels = asked(sizes)
    embedding = sam.image_encoder(image)
    theirs = published.get_image_embeddings(image)
    close(embedding, theirs)
    masks, scores = decode_masks(sam.mask_decoder, sam.prompt_encoder, embedding, (points, labels))
    for multimask, tokens in ((True, slice(1, 4)), (False, slice(0, 1))):
        output = published(
            image_embeddings=theirs,
            input_points=points[:, None],
            input_labels=labels[:, None],
            multimask_output=multimask,
        )
        close(masks[:, tokens], output.pred_masks[:, 0])
        close(scores[:, tokens], output.iou_scores[:, 0])
    assert masks.std() > 1e-2 and embedding.std() > 1e-2


@pytest.mark.parametrize("sizes", SIZES, ids=["small", "vit_b"])
def test_sam_as_transformers_publishes_it(sizes, tmp_path):
    published = transformers_sam(sizes)
    published.save_pretrained(tmp_path)
    assert_same_sam(load_ours(tmp_path / "model.safetensors", sizes), published, sizes)


@pytest.mark.parametrize("sizes", SIZES, ids=["small", "vit_b"])
def test_our_sam_by_transformers_names(sizes, tmp_path):
    sam = load_ours_from_noise(sizes)
    published = transformers_sam(sizes, seed=5)
    missing, unexpected = published.load_state_dict(
        sam_to_transformers(sam.state_dict()), strict=False
    )
    # The one matrix in two places: loading either fills both.
    assert missing in ([], ["prompt_encoder.shared_embedding.positional_embedding"])
    assert not unexpected
    published.tie_weights()
    assert_same_sam(sam, published, sizes)


def load_ours_from_noise(sizes: SamConfig) -> nn.Module:
    torch.manual_seed(7)
    sam = build_sam(sizes).eval().requires_grad_(False)
    for parameter in sam.parameters():
        parameter += 0.03 * torch.randn(parameter.shape)
    return sam


def test_sam_as_meta_publishes_it(tmp_path):
    """segment-anything's own builder, its checkpoint with the hash in the name, and ours."""
    sizes = SamConfig(embed_dim=32, depth=2, num_heads=2, global_blocks=(1,))
    theirs = _build_sam(
        encoder_embed_dim=sizes.embed_dim,
        encoder_depth=sizes.depth,
        encoder_num_heads=sizes.num_heads,
        encoder_global_attn_indexes=list(sizes.global_blocks),
    )
    torch.save(theirs.state_dict(), tmp_path / "sam.pth")
    digest = hashlib.sha256((tmp_path / "sam.pth").read_bytes()).hexdigest()
    path = (tmp_path / "sam.pth").rename(tmp_path / f"sam_vit_s_{digest[:6]}.pth")
    check_named_hash(path)
    ours = load_ours(path, sizes).state_dict()
    assert ours.keys() == theirs.state_dict().keys()
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours[name], tensor), name
    wrong = path.rename(tmp_path / "sam_vit_s_000000.pth")
    with pytest.raises(WeightsError, match=f"starts with 000000, but it starts with {digest[:6]}"):
        check_named_hash(wrong)


@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
def test_clip_as_published(form, repositories, tmp_path):
    """Plain features, the class token of Surgery, and text, with the end token given wrongly."""
    folder = repositories / SMALL.clip_source.repo
    published = CLIPModel.from_pretrained(folder).eval().requires_grad_(False)
    weights = folder / form
    if not weights.exists():
        # Older files hold counters besides.
        counters = {
            "text_model.embeddings.position_ids": torch.arange(77)[None],
            "vision_model.embeddings.position_ids": torch.arange(17)[None],
        }
        weights = tmp_path / form
        torch.save({**published.state_dict(), **counters}, weights)
    extras = {name: folder / name for name in SMALL.clip_source.extras}
    files = LocalFiles(weights, extras)
    ours = build_clip(SMALL_CLIP).eval().requires_grad_(False)
    ours.load_state_dict(read_clip(files, SMALL_CLIP))
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    states = published.vision_model(pixels)
    plain = SurgeryVision(ours, surgery_layers=0)(pixels)
    hidden = published.vision_model.post_layernorm(states.last_hidden_state)
    close(plain, published.visual_projection(hidden))
    surgery = SurgeryVision(ours, SMALL_CLIP.surgery_layers)(pixels)
    close(surgery[:, 0], published.visual_projection(states.pooler_output))
    assert (surgery[:, 1:] - plain[:, 1:]).abs().max() > 1e-2
    texts = ["cat", "a dog, a CAT", ""]
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    theirs = published.text_projection(published.text_model(**batch).pooler_output)
    close(encode_text(ours, read_clip_tokenizer(files, SMALL_CLIP), texts), theirs)


def test_tokenizer_by_hand(repositories):
    """Start, merged syllables, end; nothing is added to the vocabulary."""
    folder = repositories / SMALL.clip_source.repo
    extras = {name: folder / name for name in SMALL.clip_source.extras}
    tokenizer = read_clip_tokenizer(LocalFiles(folder, extras), SMALL_CLIP)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("Cat  dog")["input_ids"])
    assert tokens == ["<|startoftext|>", "cat</w>", "dog</w>", "<|endoftext|>"]
    padded = tokenizer(["cat", "cat dog cat"], padding=True, return_tensors="pt")["input_ids"]
    assert padded.max() == SMALL_CLIP.vocab_size - 1 == len(tokenizer) - 1


def test_merges_that_do_not_fit_the_vocabulary(repositories, tmp_path):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(repositories / SMALL.clip_source.repo / name, tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\nno such\n")
    files = LocalFiles(
        tmp_path / "none", {name: tmp_path / name for name in ("vocab.json", "merges.txt")}
    )
    with pytest.raises(WeightsError, match=r"merges\.txt does not fit vocab\.json"):
        read_clip_tokenizer(files, SMALL_CLIP)
