"""The list of methods: the papers' own and the baselines.

A method's module is imported when the method is first looked up: to list ids imports nothing.
"""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from .errors import PromptError

if TYPE_CHECKING:
    from .predictor import Predictor
    from .weights.backbones import Backbones
    from .weights.model_card import MethodSummary
    from .weights.presets import Preset

METHODS: dict[str, str] = {
    "clip-guided-sam": "clipsam.methods.clip_guided_sam:ClipGuidedSamPredictor",
    "esc-net": "clipsam.methods.esc_net:EscNetPredictor",
    "sam-ptx": "clipsam.methods.sam_ptx:SamPtxPredictor",
    "clip-sam": "baselines.clip_sam:ClipSamPredictor",
    "cat-seg": "clipsam.methods.esc_net:CatSegPredictor",
    "clip-surgery-sam": "baselines.clip_surgery_sam:ClipSurgerySamPredictor",
    "clip-surgery-sam-decoder": "baselines.clip_surgery_sam:DecoderTunedPredictor",
    "clip-surgery-sam-adapters": "baselines.clip_surgery_sam:AdaptersTunedPredictor",
    "sam": "baselines.sam:SamPredictor",
    "sam2": "baselines.sam2:Sam2Predictor",
    "clip-surgery-sam2": "baselines.clip_surgery_sam2:ClipSurgerySam2Predictor",
    "clipseg-sam": "baselines.clipseg_sam:ClipSegSamPredictor",
    "grounded-sam": "baselines.grounded_sam:GroundedSamPredictor",
    "grounded-sam2": "baselines.grounded_sam2:GroundedSam2Predictor",
    "owlv2-sam": "baselines.owlv2_sam:Owlv2SamPredictor",
    "sam3": "baselines.sam3:Sam3Predictor",
    "sam-decoder": "baselines.sam_peft:SamDecoderPredictor",
    "sam-parallel": "baselines.sam_peft:SamParallelPredictor",
    "sam-series": "baselines.sam_peft:SamSeriesPredictor",
    "sam-mix": "baselines.sam_peft:SamMixPredictor",
    "sam-lora": "baselines.sam_peft:SamLoraPredictor",
    "sam-proposals-clip": "baselines.sam_proposals_clip:SamProposalsClipPredictor",
}
"""``module:class`` of each method by id, in display order."""


def methods() -> dict[str, type[Predictor]]:
    """Return all methods by id, in the order of :data:`METHODS`."""
    return {method: find_method(method) for method in METHODS}


def find_method(method: str) -> type[Predictor]:
    """Return the method with an id.

    Raises:
        PromptError: there is no such method.
    """
    if method not in METHODS:
        raise PromptError(f"There is no method “{method}”, expected one of {', '.join(METHODS)}.")
    return resolve_name(METHODS[method])


def methods_with_bundles() -> dict[str, MethodSummary]:
    """Return what a bundle's card says of the methods that have weights of their own, by id."""
    from .weights.model_card import MethodSummary  # Here, for the list alone needs no library.

    return {
        id: MethodSummary(cls.info.name, cls.info.paper, cls.info.modes, cls.info.summary)
        for id, cls in methods().items()
        if cls.needs_training
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


def describe_methods(preset: Preset) -> list[dict]:
    """Describe every method as far as possible without loading weights.

    Args:
        preset: preset for which parameters are counted; ``None`` for methods with extra networks,
            whose sizes are only known from their files.
    """
    import torch  # Here, for the list alone needs no library.

    from .weights.availability import method_status
    from .weights.backbones import assemble, build_networks
    from .weights.presets import PRESETS

    with torch.device("meta"):
        backbones = assemble(preset, *build_networks(preset), device="meta")
        counts = {
            id: None if cls.extra_networks(preset) else count_parameters(cls.untrained(backbones))
            for id, cls in methods().items()
        }
    return [
        {
            "id": id,
            "name": cls.info.name,
            "paper": cls.info.paper,
            "kind": cls.info.kind,
            "modes": list(cls.info.modes),
            "presets": {name: method_status(cls, other) for name, other in PRESETS.items()},
            "parameters": counts[id],
        }
        for id, cls in methods().items()
    ]
