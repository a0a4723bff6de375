"""The list of methods: the papers' own and the baselines.

What is known of a method without its code is listed here; its module is imported when the method
is first used, so that listing methods takes no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

from .errors import PromptError
from .weights.published import (
    CLIPSEG,
    GROUNDING_DINO,
    OWLV2,
    SAM3,
    SAM3_LITETEXT,
    PublishedWeights,
)

if TYPE_CHECKING:
    from .predictor import Predictor
    from .weights.availability import Status
    from .weights.backbones import Backbones
    from .weights.model_card import MethodSummary
    from .weights.presets import Preset

VANILLA, DENSE = "vanilla", "dense-prompt"
"""Modes of methods whose map prompts SAM: by points alone, or also as dense prompt."""

WITHOUT_SAM = "without-sam"
"""Mode of such a method in which its map, cut at a threshold, is the mask."""

TEXT, TEXT_AND_BOXES, SEMANTIC = "text", "text-and-boxes", "semantic"
"""Modes of SAM 3: objects by name, by name and examples, or one mask of all pixels of a class."""

WHOLE, SLIDING = "whole-image", "sliding-window"
"""Modes of methods that predict a label map: the image at once, or in windows."""

_SU_SAM = "arXiv 2401.17803"

_READOUT_MODES = (WITHOUT_SAM, VANILLA, DENSE)
_READOUT_REMARK = (
    "A mask is a class's own map above a threshold, not where the class is the likeliest of all; "
    "prompting SAM is an addition of this project."
)


@dataclass(frozen=True)
class MethodInfo:
    """What is known of a method without its code.

    Attributes:
        id: name on the command line.
        name: name on the page.
        paper: its source.
        kind: ``method`` of one of the three papers, or ``baseline``.
        modes: its modes; the first is the default.
        summary: one sentence about the method.
        predictor: its class, ``module:class``.
        quoted: results of the published network, as reported in the paper.
        remark: what a reader of the paper should know of this implementation.
        needs_training: whether the method has weights of its own, stored as a bundle.
        networks: published networks that it needs in addition to the preset's SAM and CLIP.
        uses_sam2: whether it needs the preset's SAM 2.1, too.
    """

    id: str
    name: str
    paper: str
    kind: Literal["method", "baseline"]
    modes: tuple[str, ...]
    summary: str
    predictor: str
    quoted: str = ""
    remark: str = ""
    needs_training: bool = False
    networks: tuple[PublishedWeights, ...] = ()
    uses_sam2: bool = False

    def extra_networks(self, preset: Preset) -> tuple[PublishedWeights, ...]:
        """Return the published networks needed in addition to the preset's SAM and CLIP."""
        sam2 = (preset.sam2_source,) if self.uses_sam2 else ()
        return (*sam2, *self.networks)


_METHODS = (
    MethodInfo(
        id="clip-guided-sam",
        name="CLIP-Guided SAM",
        paper="arXiv 2605.24807",
        kind="method",
        modes=("semi-automatic", "manual"),
        summary=(
            "Class name and CLIP's patch features condition SAM's encoder; points and a dense "
            "prompt come from CLIP's similarity map, or the points from you."
        ),
        quoted=(
            "mIoU from text alone 78.3 (VOC 1/16), 60.5 (COCO 1/512), 47.9 (ADE20K 1/64); MAE with "
            "clicks 0.015 (COD10K)"
        ),
        predictor="clipsam.methods.clip_guided_sam:ClipGuidedSamPredictor",
        needs_training=True,
    ),
    MethodInfo(
        id="esc-net",
        name="ESC-Net",
        paper="arXiv 2411.14723",
        kind="method",
        modes=(WHOLE, SLIDING),
        summary=(
            "CLIP's map of each class prompts SAM's decoder layers, which refine CLIP's features; "
            "all classes are predicted together, from their names alone."
        ),
        quoted="mIoU with CLIP B/16 35.6 (A-150), 59.0 (PC-59); with L/14 41.8 and 65.6",
        remark=(
            "No code was published; the foreground threshold α, the fusion, the state passed "
            "between blocks and the class token given to SAM are decisions of this project."
        ),
        predictor="clipsam.methods.esc_net:EscNetPredictor",
        needs_training=True,
    ),
    MethodInfo(
        id="sam-ptx",
        name="SAM-PTx",
        paper="arXiv 2508.00213",
        kind="method",
        modes=("manual",),
        summary="The class name conditions SAM's encoder; prompted by points or a box.",
        quoted="mIoU 67.35 (COCO), 71.38 (ADE20K), with its own protocol",
        remark=(
            "An adapter without text also lies parallel to attention, where the abstract speaks of "
            "the MLP alone, and the prompt encoder is tuned, which the paper freezes."
        ),
        predictor="clipsam.methods.sam_ptx:SamPtxPredictor",
        needs_training=True,
    ),
    MethodInfo(
        id="clip-sam",
        name="CLIP + SAM",
        paper="arXiv 2103.00020",
        kind="baseline",
        modes=(VANILLA, DENSE),
        summary=(
            "Points where plain CLIP's similarity map is high prompt an unchanged SAM; shows the "
            "benefit of CLIP Surgery."
        ),
        predictor="baselines.clip_sam:ClipSamPredictor",
    ),
    MethodInfo(
        id="cat-seg",
        name="CAT-Seg (ESC-Net without SAM)",
        paper="arXiv 2303.11797",
        kind="baseline",
        modes=(WHOLE, SLIDING),
        summary=(
            "CLIP's maps of all classes are refined together by attention, without SAM; CAT-Seg's "
            "idea in ESC-Net's form, not the published network."
        ),
        quoted=(
            "mIoU with CLIP B/16 31.8 (A-150), 57.5 (PC-59), with L/14 37.9 and 63.3; in "
            "2411.14723, ESC-Net without SAM, L/14: 24.2 and 50.4"
        ),
        predictor="clipsam.methods.esc_net:CatSegPredictor",
        needs_training=True,
    ),
    MethodInfo(
        id="clip-surgery-sam",
        name="CLIP Surgery + SAM",
        paper="arXiv 2304.05653",
        kind="baseline",
        modes=(VANILLA, DENSE),
        summary=(
            "Points where CLIP's similarity map is high prompt an unchanged SAM, optionally with "
            "the map itself as dense prompt."
        ),
        remark="The baseline of 2605.24807; the demo of its authors is a method of its own here.",
        quoted="in 2605.24807: mIoU 41.2, with dense prompt 48.6 (VOC 1/16)",
        predictor="baselines.clip_surgery_sam:ClipSurgerySamPredictor",
    ),
    MethodInfo(
        id="clip-surgery-sam-demo",
        name="CLIP Surgery + SAM, its authors' demo",
        paper="arXiv 2304.05653",
        kind="baseline",
        modes=("text",),
        summary=(
            "The class name in 85 templates; the map's high cells as foreground and as many low "
            "ones as background prompt an unchanged SAM, whose best candidate is the mask."
        ),
        remark=(
            "As CLIP Surgery's authors published it; “CLIP Surgery + SAM” is the baseline of "
            "2605.24807, with five points and the bare name."
        ),
        predictor="baselines.clip_surgery_sam_demo:ClipSurgerySamDemoPredictor",
    ),
    MethodInfo(
        id="maskclip",
        name="MaskCLIP",
        paper="arXiv 2112.01071",
        kind="baseline",
        modes=_READOUT_MODES,
        summary=(
            "Each patch keeps its own value in CLIP's last layer, without attention; this map is "
            "the mask, or prompts an unchanged SAM."
        ),
        remark=_READOUT_REMARK,
        predictor="baselines.maskclip:MaskClipPredictor",
    ),
    MethodInfo(
        id="sclip",
        name="SCLIP",
        paper="arXiv 2312.01597",
        kind="baseline",
        modes=_READOUT_MODES,
        summary=(
            "Patches attend to those with similar queries and keys in CLIP's last layer; this map "
            "is the mask, or prompts an unchanged SAM."
        ),
        remark=_READOUT_REMARK,
        predictor="baselines.sclip:SclipPredictor",
    ),
    MethodInfo(
        id="clearclip",
        name="ClearCLIP",
        paper="arXiv 2407.12442",
        kind="baseline",
        modes=_READOUT_MODES,
        summary=(
            "CLIP's last layer is its query-query attention alone, without residual connection and "
            "MLP; this map is the mask, or prompts an unchanged SAM."
        ),
        remark=(
            f"{_READOUT_REMARK} The bundled CLIP has few layers and loses most of what it knows "
            "with the residual connection of the last."
        ),
        predictor="baselines.clearclip:ClearClipPredictor",
    ),
    MethodInfo(
        id="clip-surgery-sam-decoder",
        name="CLIP Surgery + SAM, decoder tuned",
        paper="arXiv 2605.24807",
        kind="baseline",
        modes=("semi-automatic", "manual"),
        summary="CLIP's similarity map prompts a SAM with tuned prompt encoder and mask decoder.",
        quoted="mIoU 58.8 (VOC 1/16), 34.6 (COCO 1/512)",
        predictor="baselines.clip_surgery_sam:DecoderTunedPredictor",
        needs_training=True,
    ),
    MethodInfo(
        id="clip-surgery-sam-adapters",
        name="CLIP Surgery + SAM, adapters tuned",
        paper="arXiv 2605.24807",
        kind="baseline",
        modes=("semi-automatic", "manual"),
        summary=(
            "CLIP's similarity map prompts a SAM with tuned decoder and parallel adapters without "
            "text."
        ),
        quoted="mIoU 61.4 (VOC 1/16), 36.2 (COCO 1/512)",
        predictor="baselines.clip_surgery_sam:AdaptersTunedPredictor",
        needs_training=True,
    ),
    MethodInfo(
        id="sam",
        name="SAM",
        paper="arXiv 2304.02643",
        kind="baseline",
        modes=("manual",),
        summary="Points and boxes only; class names are ignored.",
        predictor="baselines.sam:SamPredictor",
    ),
    MethodInfo(
        id="sam2",
        name="SAM 2.1",
        paper="arXiv 2408.00714",
        kind="baseline",
        modes=("manual",),
        summary="Points and boxes only, with SAM 2.1; class names are ignored.",
        predictor="baselines.sam2:Sam2Predictor",
        uses_sam2=True,
    ),
    MethodInfo(
        id="clip-surgery-sam2",
        name="CLIP Surgery + SAM 2.1",
        paper="arXiv 2408.00714",
        kind="baseline",
        modes=(VANILLA, DENSE),
        summary="Points where CLIP's similarity map is high prompt an unchanged SAM 2.1.",
        predictor="baselines.clip_surgery_sam2:ClipSurgerySam2Predictor",
        uses_sam2=True,
    ),
    MethodInfo(
        id="clipseg-sam",
        name="CLIPSeg + SAM",
        paper="arXiv 2112.10003",
        kind="baseline",
        modes=(DENSE, VANILLA),
        summary=(
            "The map of CLIPSeg, a text-guided segmentation network, prompts an unchanged SAM: as "
            "dense prompt and points, or as points alone."
        ),
        predictor="baselines.clipseg_sam:ClipSegSamPredictor",
        networks=(CLIPSEG,),
    ),
    MethodInfo(
        id="grounded-sam",
        name="Grounded SAM",
        paper="arXiv 2401.14159",
        kind="baseline",
        modes=("text",),
        summary="Boxes that Grounding DINO detects for the name prompt an unchanged SAM.",
        quoted="in 2605.24807: mIoU 72.0 (VOC 1/16), 61.3 (COCO 1/512)",
        predictor="baselines.grounded_sam:GroundedSamPredictor",
        networks=(GROUNDING_DINO,),
    ),
    MethodInfo(
        id="grounded-sam2",
        name="Grounded SAM 2",
        paper="arXiv 2401.14159",
        kind="baseline",
        modes=("text",),
        summary="Boxes that Grounding DINO detects for the name prompt SAM 2.1.",
        predictor="baselines.grounded_sam2:GroundedSam2Predictor",
        networks=(GROUNDING_DINO,),
        uses_sam2=True,
    ),
    MethodInfo(
        id="owlv2-sam",
        name="OWLv2 + SAM",
        paper="arXiv 2306.09683",
        kind="baseline",
        modes=("text",),
        summary="Boxes that OWLv2 detects for the name prompt an unchanged SAM.",
        predictor="baselines.owlv2_sam:Owlv2SamPredictor",
        networks=(OWLV2,),
    ),
    MethodInfo(
        id="sam3",
        name="SAM 3",
        paper="arXiv 2511.16719",
        kind="baseline",
        modes=(TEXT, TEXT_AND_BOXES, SEMANTIC),
        summary=(
            "One network for text and masks: detects and segments every instance of a class by its "
            "name and, if you draw one, a box around an example; or one mask per class."
        ),
        predictor="baselines.sam3:Sam3Predictor",
        networks=(SAM3,),
    ),
    MethodInfo(
        id="sam3-litetext",
        name="SAM3-LiteText",
        paper="arXiv 2602.12173",
        kind="baseline",
        modes=(TEXT, TEXT_AND_BOXES, SEMANTIC),
        summary="SAM 3 with MobileCLIP's small text tower in place of its own.",
        remark=(
            "Its weights come under the SAM License. The published files were never read here: "
            "that they fit, and that they need no accepted terms, is not verified."
        ),
        predictor="baselines.sam3_litetext:Sam3LiteTextPredictor",
        networks=(SAM3_LITETEXT,),
    ),
    MethodInfo(
        id="sam-decoder",
        name="SAM, decoder tuned",
        paper="arXiv 2304.02643",
        kind="baseline",
        modes=("manual",),
        summary="SAM with tuned prompt encoder and mask decoder; prompted by points or a box.",
        predictor="baselines.sam_peft:SamDecoderPredictor",
        needs_training=True,
    ),
    MethodInfo(
        id="sam-parallel",
        name="SU-SAM, parallel",
        paper=_SU_SAM,
        kind="baseline",
        modes=("manual",),
        summary="Adapters parallel to attention and MLP; prompted by points or a box.",
        predictor="baselines.sam_peft:SamParallelPredictor",
        needs_training=True,
    ),
    MethodInfo(
        id="sam-series",
        name="SU-SAM, series",
        paper=_SU_SAM,
        kind="baseline",
        modes=("manual",),
        summary="Adapters after attention and after the MLP; prompted by points or a box.",
        predictor="baselines.sam_peft:SamSeriesPredictor",
        needs_training=True,
    ),
    MethodInfo(
        id="sam-mix",
        name="SU-SAM, mix",
        paper=_SU_SAM,
        kind="baseline",
        modes=("manual",),
        summary="Adapters after attention and parallel to the MLP; prompted by points or a box.",
        predictor="baselines.sam_peft:SamMixPredictor",
        needs_training=True,
    ),
    MethodInfo(
        id="sam-lora",
        name="SU-SAM, LoRA",
        paper=_SU_SAM,
        kind="baseline",
        modes=("manual",),
        summary="Low-rank updates in attention; prompted by points or a box.",
        predictor="baselines.sam_peft:SamLoraPredictor",
        needs_training=True,
    ),
    MethodInfo(
        id="sam-proposals-clip",
        name="SAM proposals + CLIP",
        paper="arXiv 2304.02643",
        kind="baseline",
        modes=("automatic",),
        summary=(
            "SAM segments the whole image without prompts; CLIP then classifies each mask as one "
            "of your classes or none."
        ),
        predictor="baselines.sam_proposals_clip:SamProposalsClipPredictor",
    ),
)

METHODS: dict[str, MethodInfo] = {info.id: info for info in _METHODS}
"""Every method by its id, in display order."""


def find_info(method: str) -> MethodInfo:
    """Return what is known of the method with an id.

    Raises:
        PromptError: there is no such method.
    """
    if method not in METHODS:
        raise PromptError(f"There is no method “{method}”, expected one of {', '.join(METHODS)}.")
    return METHODS[method]


def find_method(method: str) -> type[Predictor]:
    """Import the method with an id.

    Raises:
        PromptError: there is no such method.
    """
    return resolve_name(find_info(method).predictor)


def methods() -> dict[str, type[Predictor]]:
    """Import all methods; return them by id, in the order of :data:`METHODS`."""
    return {method: find_method(method) for method in METHODS}


def methods_with_bundles() -> dict[str, MethodSummary]:
    """Return what a bundle's card says of the methods that have weights of their own, by id."""
    from .weights.model_card import MethodSummary  # Here, for the list alone needs no library.

    return {
        id: MethodSummary(info.name, info.paper, info.modes, info.summary)
        for id, info in METHODS.items()
        if info.needs_training
    }


def load_predictor(method: str, backbones: Backbones, bundle: Path | None = None) -> Predictor:
    """Load a method with its weights onto given backbones.

    Args:
        method: its id.
        backbones: the preset's networks.
        bundle: folder of its weights; ``None`` for the project's own.

    Raises:
        PromptError: no such method.
        WeightsError: its weights are missing or do not fit.
    """
    return find_method(method).load(backbones, bundle)


def count_parameters(predictor: Predictor) -> dict[str, int]:
    """Count a method's ``total`` and ``trainable`` parameters, shared ones once."""
    parameters = list(predictor.network().parameters())
    return {
        "total": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
    }


def statuses(info: MethodInfo) -> dict[str, Status]:
    """Return by preset whether a method can run on this machine."""
    from .weights.availability import method_status
    from .weights.presets import PRESETS

    return {name: method_status(info, preset) for name, preset in PRESETS.items()}


def describe_methods(preset: Preset) -> list[dict]:
    """Describe every method as far as possible without loading weights.

    Args:
        preset: preset for which parameters are counted; ``None`` for methods with extra networks,
            whose sizes are only known from their files.
    """
    import torch

    from .weights.backbones import assemble, build_networks

    with torch.device("meta"):
        backbones = assemble(preset, *build_networks(preset), device="meta")
        counts = {
            id: None
            if info.extra_networks(preset)
            else count_parameters(find_method(id).untrained(backbones))
            for id, info in METHODS.items()
        }
    return [
        {
            "id": info.id,
            "name": info.name,
            "paper": info.paper,
            "kind": info.kind,
            "modes": list(info.modes),
            "presets": statuses(info),
            "parameters": counts[info.id],
        }
        for info in METHODS.values()
    ]
