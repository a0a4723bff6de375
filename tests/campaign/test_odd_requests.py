"""Odd requests to the API: the right answer, or one sentence; the next one is answered as ever."""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterator

import gradio as gr
import numpy as np
import pytest
from pycocotools import mask as coco

from clipsam.data.synthetic import SceneData
from clipsam.weights.availability import has_weights
from clipsam.weights.presets import TINY
from clipsam.workbench.api import Api
from clipsam.workbench.limits import MAX_CLASSES, MAX_MARKS
from clipsam.workbench.model_store import ModelStore
from tests.campaign.odd_images import encode, odd_images, photograph
from tests.campaign.test_odd_images import INNARDS

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(not has_weights(TINY), reason="the tiny bundle is not here"),
]

FEWEST = 150
SECONDS = 20.0
"""CPU time of one request."""

METHOD = "clip-guided-sam"


def url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


SCENE = SceneData(1, seed=3)[0].image
PICTURE = url(encode(SCENE, "PNG"))
PLAIN: dict[str, object] = {
    **{"image": PICTURE, "classes": "red disc, green square", "methods": [METHOD]},
    **{"masks": "rle"},
}


def odd_requests() -> Iterator[tuple[str, dict[str, object]]]:
    """Yield what is odd, and the arguments that differ from those of a plain request."""
    texts = ["", " ", ",", ";", ",;,", "\n", "a,a", "a;a", "A, a", "\0", "\u200b", "🐕", "犬、猫"]
    texts += ["a" * 5000, "a " * 900, "'; drop table x", "<b>bold</b>", "../../etc/passwd", "%s%n"]
    texts += ["שלום", "e\u0301, é", "\ud83d\ude00", "-1", "None", "{}", "[1]", "a;" * 200, "\t\r\n"]
    texts += [", ".join(f"c{n}" for n in range(count)) for count in (40, MAX_CLASSES + 1, 70_000)]
    for number, text in enumerate(texts):
        yield f"classes {number}", {"classes": text}
    for value in (None, 1, 1.5, [], ["dog"], {}, True, b"dog"):
        for name in ("classes", "methods", "preset", "image"):
            yield f"{name} is {value!r}", {name: value}
    for value in (math.nan, math.inf, -math.inf, "0", None, [], 1e308, -1e308, True):
        yield f"threshold is {value!r}", {"threshold": value}
    for value in (-1, 2**31, 2**63, 2**200, 1.5, "1", None, [], True):
        yield f"seed is {value!r}", {"seed": value}
    for value in ("", "PNG", "polygon", None, 3, ["rle"]):
        yield f"masks is {value!r}", {"masks": value}
    corners = (0, -1, 1e9, math.nan, math.inf, "5", None)
    for x, y in itertools.product(corners, corners[:3]):
        yield f"point at {x!r}, {y!r}", {"points": [["red disc", x, y, 1]]}
    for row in ([], ["red disc"], ["red disc", 1, 2], ["red disc", 1, 2, 3, 4], [1, 2, 3, 1]):
        yield f"point {row!r}", {"points": [row]}
        yield f"points {row!r}", {"points": row}
    for value in ("x", 5, {}, [None], [["red disc", 1, 1, 1]] * (MAX_MARKS + 1)):
        yield f"points is {str(value)[:40]}", {"points": value}
    for box in ((0, 0, 0, 0), (9, 9, 1, 1), (-5, 0, 9, 9), (0, 0, 1e9, 1e9), (0, 0, math.nan, 5)):
        yield f"box {box}", {"boxes": [["red disc", *box]]}
    for methods in (["nothing"], [f"{METHOD}:x"], [":"], [""], [None], [METHOD] * 50, ["sam3"]):
        yield f"methods {methods!r:.40}", {"methods": methods}
    for preset in ("", "giant", "base", "../tiny", "TINY"):
        yield f"preset {preset!r}", {"preset": preset}
    for text in ("data:", "data:image/png;base64,", "data:image/png;base64,@@@", "data:,x", "/etc"):
        yield f"image is {text!r}", {"image": text}
    for path in ("/etc/passwd", "../../etc/passwd", "", "\0", "nothing.png"):
        yield f"path is {path!r}", {"image": {"path": path}}
    for odd in itertools.islice(odd_images(5), 300, None, 11):
        yield f"image {odd.name}", {"image": url(odd.content)}
    for size in ((1, 1), (1, 900), (900, 1)):
        yield f"image of {size}", {"image": url(encode(photograph(0, size), "PNG"))}


def check(api: Api, what: str, given: dict[str, object]) -> str:
    """Ask; returns what came of it."""
    began = time.process_time()
    try:
        answer = api.segment(**{**PLAIN, **given})
    except gr.Error as error:
        text = str(error.message)
        assert text and len(text.splitlines()) == 1, f"{what}: {text}"
        assert not INNARDS.search(text), f"{what}: {text}"
        assert len(text) < 700, f"{what}: {text}"
        kind = "refused"
    else:
        json.dumps(answer, allow_nan=False)
        for method in answer["methods"]:
            assert not INNARDS.search(method["error"]), f"{what}: {method['error']}"
            assert "see the server log" not in method["error"], what
            for one in method["classes"]:
                if given.get("masks", "rle") == "rle":
                    assert list(coco.decode(one["mask"]).shape) == answer["size"]
        kind = "answered"
    assert time.process_time() - began < SECONDS, what
    return kind


def test_odd_requests(caplog: pytest.LogCaptureFixture) -> None:
    api = Api(ModelStore())
    plain = _shown(api.segment(**PLAIN))
    came = Counter(check(api, what, given) for what, given in odd_requests())
    assert sum(came.values()) >= FEWEST
    assert min(came["answered"], came["refused"]) > 10
    assert _shown(api.segment(**PLAIN)) == plain
    assert not re.search("Traceback", caplog.text)


def _shown(answer: dict) -> list[np.ndarray]:
    return [one["mask"] for one in answer["methods"][0]["classes"]]
