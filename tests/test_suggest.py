"""Suggested names are those whose presence is highest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.models import ResNet18_Weights

from clipsam.cli import main
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.errors import PromptError
from clipsam.registry import load_predictor
from clipsam.suggest import VOCABULARIES, Suggestion, confident, read_vocabulary, suggest
from clipsam.types import prompt_from_classes
from clipsam.weights.availability import has_weights
from clipsam.weights.backbones import Backbones, load_backbones
from clipsam.weights.presets import TINY

NAMES = ("red heart", "checked star", "tree", "sky", "striped disc")


@pytest.fixture(scope="module")
def tiny() -> Backbones:
    if not has_weights(TINY):
        pytest.skip("the bundled tiny weights are not here")
    return load_backbones(TINY)


def test_presence_and_order_are_those_of_clip_surgery(tiny: Backbones) -> None:
    image = SceneData(2, seed=7)[1].image
    found = suggest(EncodedImage(image), tiny, NAMES, count=4)
    prompt = prompt_from_classes([[name] for name in NAMES])
    prediction = load_predictor("clip-surgery-sam", tiny).predict(EncodedImage(image), prompt)
    results = dict(zip(prediction.texts, prediction.results, strict=True))
    order = sorted(NAMES, key=lambda name: -results[name].similarity.max())
    assert [one.name for one in found] == order[:4]
    for one in found:
        assert one.presence == pytest.approx(results[one.name].presence, abs=1e-5)
        assert one.similarity == pytest.approx(results[one.name].similarity.max(), abs=1e-5)


def test_many_names_are_the_same_as_one_by_one(
    tiny: Backbones, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = EncodedImage(SceneData(1, seed=7)[0].image)
    at_once = suggest(encoded, tiny, NAMES)
    monkeypatch.setattr("clipsam.suggest.TEXTS_AT_A_TIME", 2)
    in_turns = suggest(encoded, tiny, NAMES)
    assert [one.name for one in at_once] == [one.name for one in in_turns]
    assert np.allclose([one.similarity for one in at_once], [one.similarity for one in in_turns])


def test_vocabularies() -> None:
    sizes = {name: len(read_vocabulary(name)) for name in VOCABULARIES}
    assert sizes["common"] == 8 * 8 + 59
    assert sizes["a-150"] == 150 and 800 < sizes["a-847"] <= 847
    assert read_vocabulary("a-847")[1] == "building"
    assert read_vocabulary(" dog ; puppy, Grass,dog, grass") == ("dog", "grass")
    assert read_vocabulary("dog; puppy\nhot dog, cat\r\n\n dog ") == ("dog", "hot dog", "cat")
    assert sizes["coco-171"] == 171
    assert {"person", "toothbrush", "wall brick", "sky"} <= {*read_vocabulary("coco-171")}


def test_imagenet_has_the_names_that_torchvision_knows() -> None:
    """Of the same classes in another spelling; few names, such as "crane", stand for two."""
    names = read_vocabulary("imagenet")
    assert 990 <= len(names) <= 1000 and names[:2] == ("tench", "goldfish")
    known = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    assert len({*map(str.lower, names)} & {*map(str.lower, known)}) > 900


@pytest.mark.parametrize("text", ["", " , ", ",".join(f"name {n}" for n in range(2001))])
def test_vocabularies_that_cannot_be_used(text: str) -> None:
    with pytest.raises(PromptError, match="expected 1 to 2000"):
        read_vocabulary(text)


def test_the_first_question_asks_what_is_likelier_present_than_not() -> None:
    def known(*presence: float) -> list[Suggestion]:
        return [Suggestion(f"n{i}", one, 0.5) for i, one in enumerate(presence)]

    assert confident(known(0.9, 0.8, 0.7, 0.6)) == ["n0", "n1", "n2"]
    assert confident(known(0.9, 0.4)) == ["n0"]
    assert confident(known(0.4, 0.3)) == ["n0"]
    assert confident(known(float("nan"), float("nan"))) == ["n0"]
    assert confident([]) == []


def test_on_the_command_line(
    tiny: Backbones, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = SceneData(1, seed=7)[0].image
    Image.fromarray(image).save(tmp_path / "scene.png")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    asked = ["suggest", str(tmp_path / "scene.png"), "--names", str(tmp_path / "names.txt")]
    assert main([*asked, "--count", "2", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = suggest(EncodedImage(image), tiny, NAMES, 2)
    assert [one["name"] for one in printed] == [one.name for one in expected]
    assert main(asked) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(NAMES)
    assert main(["suggest", str(tmp_path / "scene.png"), "--names", str(tmp_path / "no.txt")]) == 2
    assert "is not a text file" in capsys.readouterr().err
