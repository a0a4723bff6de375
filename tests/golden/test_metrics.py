"""Metrics against the authors' own numbers and pysodmetrics' published ones."""

from __future__ import annotations

import pytest

from clipsam.evaluation.metrics import (
    ClassScore,
    class_wise_miou,
    count,
    mean_absolute_error,
    mean_image_iou,
    pooled_iou,
)
from clipsam.evaluation.saliency import saliency_metrics


def test_miou_and_mae(golden):
    reference = golden("miou_mae")
    names = reference.config["classes"]
    logits = reference.inputs["logits"][:, 0].numpy()
    truths = reference.inputs["targets"][:, 0].numpy() > 0.5
    ids = reference.inputs["class_ids"].tolist()
    scores = [
        ClassScore(names[i], count(z > 0, y)) for i, z, y in zip(ids, logits, truths, strict=True)
    ]
    expected = dict(zip(names, reference.outputs["per_class_iou"].tolist(), strict=True))
    del expected["absent"]
    assert pooled_iou(scores) == pytest.approx(expected, abs=1e-6)
    miou, mae, _ = reference.outputs["miou_mae_loss"].tolist()
    assert class_wise_miou(scores) == pytest.approx(miou, abs=1e-6)
    per_sample = reference.outputs["per_sample_iou_mean"].item()
    assert mean_image_iou(scores) == pytest.approx(per_sample, abs=1e-6)
    errors = [mean_absolute_error(z, y) for z, y in zip(logits, truths, strict=True)]
    assert sum(errors) / len(errors) == pytest.approx(mae, abs=1e-6)


KEYS = {
    "S-measure": "Smeasure",
    "E-measure adaptive": "Emeasure_adp",
    "E-measure mean": "Emeasure_mean",
    "E-measure max": "Emeasure_max",
    "F-measure adaptive": "Fmeasure_adp",
    "F-measure mean": "Fmeasure_mean",
    "F-measure max": "Fmeasure_max",
    "weighted F-measure": "wFmeasure",
    "MAE": "MAE",
}


def test_saliency(golden):
    reference = golden("cod_metrics")
    values = dict(reference.config["values"])
    together = values.pop("all_six")
    pairs = {
        name: (
            reference.inputs[f"{name}_pred"].numpy(),
            reference.inputs[f"{name}_gt"].numpy() > 128,
        )
        for name in values
    }
    for name, expected in values.items():
        actual = saliency_metrics([pairs[name]])
        assert actual == pytest.approx({k: expected[v] for k, v in KEYS.items()}, abs=1e-6), name
    six = [pair for name, pair in pairs.items() if not name.startswith("extra")]
    expected = {k: together[v] for k, v in KEYS.items()}
    assert saliency_metrics(six) == pytest.approx(expected, abs=1e-6)
