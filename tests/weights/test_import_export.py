"""``import`` and ``export`` of the authors' checkpoints, as a person types them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from clipsam.cli import main
from clipsam.encoded_image import EncodedImage
from clipsam.methods.clip_guided_sam import ClipGuidedSamPredictor
from clipsam.methods.reference_checkpoint import reference_design, write_reference_checkpoint
from clipsam.types import Concept, Prompt
from clipsam.weights.backbones import load_backbones
from clipsam.weights.download import copy_from_folder
from clipsam.weights.presets import PRESETS


def test_there_and_back(small, repositories, cache, monkeypatch, tmp_path, capsys):
    preset = replace(small, fit="squash", feature_norm="reference")
    monkeypatch.setitem(PRESETS, "small", preset)
    copy_from_folder(preset, repositories)
    backbones = load_backbones(preset)
    predictor = ClipGuidedSamPredictor.untrained(backbones, reference_design(preset))
    theirs, bundle, again = (tmp_path / name for name in ("theirs.pth", "bundle", "again.pth"))
    write_reference_checkpoint(predictor, theirs)
    assert main(["import", str(theirs), "--preset", "small", "--out", str(bundle)]) == 0
    assert main(["export", str(bundle), "--out", str(again)]) == 0
    before, after = (torch.load(path, weights_only=True) for path in (theirs, again))
    assert before.keys() == after.keys()
    for part, tensors in before.items():
        assert tensors.keys() == after[part].keys()
        for name, tensor in tensors.items():
            # Bundles hold half precision.
            torch.testing.assert_close(after[part][name], tensor, rtol=1e-3, atol=1e-6)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    prompt = Prompt((Concept(("cat",), points=[[20, 20]], labels=[1]),))
    prediction = ClipGuidedSamPredictor.load(backbones, bundle).predict(EncodedImage(image), prompt)
    assert np.isfinite(prediction.logits()).all()
    assert main(["import", str(bundle), "--preset", "small", "--out", str(bundle)]) == 2
    assert main(["export", str(theirs), "--out", str(again)]) == 2
    assert "is not a bundle" in capsys.readouterr().err
