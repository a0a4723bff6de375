"""The page's functions for programs: Python, HTTP, and tools for agents."""

from __future__ import annotations

import ast
import asyncio
import base64
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from PIL import Image
from pycocotools import mask as coco

from clipsam.data.images import open_image
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.evaluation.metrics import count, dice, iou
from clipsam.predictor import PredictOptions
from clipsam.registry import load_predictor, methods
from clipsam.suggest import suggest
from clipsam.types import Concept, Prediction, Prompt
from clipsam.weights.backbones import Backbones
from clipsam.weights.presets import PRESETS

FUNCTIONS = {"segment", "list_methods", "compare_with_truth", "suggest"}
GUIDED, SAM = "clip-guided-sam", "sam"
API_PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


@pytest.fixture(scope="module")
def page(address: str) -> Client:
    """A client of the page."""
    return Client(address, verbose=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture, its classes as ids from 1, and one class in black and white."""
    folder = tmp_path_factory.mktemp("files")
    sample = SceneData(1, seed=9)[0]
    Image.fromarray(sample.image).save(folder / "photo.png")
    Image.fromarray(sample.image).save(folder / "photo.jpg")
    ids = np.zeros(sample.classes.shape, np.uint8)
    for number, index in enumerate(sample.present()[:2], start=1):
        ids[sample.classes == index] = number
    Image.fromarray(ids).save(folder / "ids.png")
    Image.fromarray((ids == 2).astype(np.uint8) * 255).save(folder / "second.png")
    (folder / "classes.txt").write_text(", ".join(sample.names[i] for i in sample.present()[:2]))
    return folder


@pytest.fixture(scope="module")
def classes(files: Path) -> str:
    """Two classes that the picture shows, as typed."""
    return (files / "classes.txt").read_text()


def direct(
    tiny: Backbones, files: Path, classes: str, method: str, options: PredictOptions | None = None
) -> Prediction:
    """What the predictor itself answers."""
    prompt = Prompt(tuple(Concept((name,)) for name in classes.split(", ")))
    encoded = EncodedImage(open_image(files / "photo.png"))
    return load_predictor(method, tiny).predict(encoded, prompt, options)


def test_nothing_else_is_offered(page: Client) -> None:
    offered = page.view_api(return_format="dict")
    assert {name.strip("/") for name in offered["named_endpoints"]} == FUNCTIONS
    assert not offered["unnamed_endpoints"]


def test_types_and_defaults_are_told(page: Client) -> None:
    segment = page.view_api(return_format="dict")["named_endpoints"]["/segment"]
    told = {one["parameter_name"]: one for one in segment["parameters"]}
    assert told["image"]["python_type"]["type"] == "filepath"
    assert told["methods"]["python_type"]["type"] == "list[str]"
    assert told["preset"]["type"]["enum"] == list(PRESETS)
    assert told["masks"]["type"]["enum"] == ["png", "rle"]
    required = [name for name, one in told.items() if not one["parameter_has_default"]]
    assert required == ["image", "classes", "methods"]
    assert segment["returns"][0]["type"]["properties"].keys() == {
        "preset",
        "size",
        "notes",
        "methods",
    }


@pytest.mark.parametrize("masks", ["png", "rle"])
def test_segment_as_the_predictor(
    page: Client, files: Path, classes: str, tiny: Backbones, masks: str
) -> None:
    answer = page.predict(
        image=handle_file(files / "photo.png"),
        classes=classes,
        methods=[GUIDED, "clip-surgery-sam:dense-prompt"],
        threshold=0.5,
        seed=3,
        masks=masks,
        api_name="/segment",
    )
    assert (answer["preset"], answer["size"]) == ("tiny", [256, 256])
    expected = (
        direct(tiny, files, classes, GUIDED, PredictOptions(seed=3)),
        direct(tiny, files, classes, "clip-surgery-sam", PredictOptions("dense-prompt", seed=3)),
    )
    for one, prediction in zip(answer["methods"], expected, strict=True):
        assert (one["method"], one["mode"]) == (prediction.method, prediction.mode)
        assert one["error"] == "" and one["seconds"] > 0 and one["peak_memory_mb"] > 0
        for index, found in enumerate(one["classes"]):
            result = prediction.results[index]
            mask = (
                coco.decode(found["mask"]) * 255
                if masks == "rle"
                else np.asarray(Image.open(found["mask"]))
            )
            expected_mask = prediction.class_mask(index, 0.5)
            np.testing.assert_array_equal(mask, expected_mask * 255)
            assert found["text"] == prediction.texts[index]
            assert found["area_fraction"] == pytest.approx(expected_mask.mean())
            assert found["presence"] == pytest.approx(result.presence)
            low, high = found["similarity_range"]
            assert (low, high) == (result.similarity.min(), result.similarity.max())
            np.testing.assert_array_equal(
                np.array(found["points"])[:, :2].astype(np.float32), result.prompts.points
            )


def test_settings_of_prompts(page: Client, files: Path, classes: str, tiny: Backbones) -> None:
    """They reach the method, and the answer says which were set."""
    given = {
        "num_points": 2,
        "sampling": "reference",
        "point_threshold": 0.6,
        "dense_logit": 255.0,
    }
    image = handle_file(files / "photo.png")
    answer = page.predict(
        image=image, classes=classes, methods=[GUIDED], masks="rle", **given, api_name="/segment"
    )
    (one,) = answer["methods"]
    assert one["settings"] == given and one["protocol"] == ""
    expected = direct(tiny, files, classes, GUIDED, PredictOptions(**given))
    for index, found in enumerate(one["classes"]):
        assert len(found["points"]) == 2
        np.testing.assert_array_equal(coco.decode(found["mask"]), expected.class_mask(index))
    answer = page.predict(
        image=image,
        classes=classes,
        methods=[GUIDED],
        masks="rle",
        protocol=GUIDED,
        api_name="/segment",
    )
    (one,) = answer["methods"]
    assert one["settings"] == {} and one["protocol"] == GUIDED
    expected = direct(tiny, files, classes, GUIDED, PredictOptions(protocol=GUIDED))
    for index, found in enumerate(one["classes"]):
        np.testing.assert_array_equal(coco.decode(found["mask"]), expected.class_mask(index))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"num_points": 0}, "num_points is 0, expected 1 to 1,000."),
        ({"num_points": 10**9}, "num_points is 1000000000, expected 1 to 1,000."),
        ({"num_points": 2.5}, "num_points is 2.5, expected an integer."),
        ({"sampling": "grid"}, "sampling is “grid”, expected spread or reference."),
        ({"dense_logit": "255"}, "dense_logit is '255', expected a finite number."),
        ({"protocol": "sam"}, "There is no protocol “sam”"),
    ],
)
def test_settings_that_cannot_be(page: Client, files: Path, given: dict, says: str) -> None:
    with pytest.raises(AppError, match=re.escape(says)):
        page.predict(
            image=handle_file(files / "photo.png"),
            classes="thing",
            methods=[GUIDED],
            **given,
            api_name="/segment",
        )


def test_points_and_boxes(page: Client, files: Path) -> None:
    answer = page.predict(
        image=handle_file(files / "photo.png"),
        classes="thing; object, other",
        methods=[SAM],
        points=[["Object", 100, 90, 1], ["thing", 5, 5.5, 0]],
        boxes=[["other", 10, 20, 90, 100]],
        api_name="/segment",
    )
    thing, other = answer["methods"][0]["classes"]
    assert thing["points"] == [[100, 90, 1], [5, 5.5, 0]] and thing["boxes"] == []
    assert other["points"] == [] and other["boxes"] == [[10, 20, 90, 100]]
    assert thing["presence"] is None and thing["similarity_range"] is None


def test_one_method_that_cannot_answer(page: Client, files: Path) -> None:
    answer = page.predict(
        image=handle_file(files / "photo.png"),
        classes="circle",
        methods=["sam:manual", GUIDED],
        api_name="/segment",
    )
    failed, fine = answer["methods"]
    assert "needs a foreground point or a box for “circle”" in failed["error"]
    assert failed["classes"] == [] and failed["seconds"] is None
    assert fine["error"] == "" and len(fine["classes"]) == 1


def test_a_data_url(page: Client, files: Path, classes: str) -> None:
    content = base64.b64encode((files / "photo.png").read_bytes()).decode()
    found = []
    lines = "\n".join(content[i : i + 76] for i in range(0, len(content), 76))
    images = (
        f"data:image/png;base64,{content}",
        f"data:image/png;base64,{lines.rstrip('=')}",
        f"data:image/png;base64,{content.replace('+', '-').replace('/', '_').rstrip('=')}",
        f"data:image/png;base64,{content.replace('=', '%3D').replace('+', '%2B')}",
        handle_file(files / "photo.png"),
    )
    for image in images:
        answer = page.predict(
            image=image, classes=classes, methods=[GUIDED], masks="rle", api_name="/segment"
        )
        found.append(answer["methods"][0]["classes"])
    assert all(answer == found[-1] for answer in found)


def test_methods_are_listed(page: Client) -> None:
    listed = {one["id"]: one for one in page.predict(api_name="/list_methods")}
    assert set(listed) == set(methods())
    assert listed[GUIDED]["modes"] == ["semi-automatic", "manual"]
    assert (listed[GUIDED]["status"], listed[GUIDED]["why_not"]) == ("ready", "")
    assert listed[GUIDED]["parameters"]["total"] > 0 and listed[GUIDED]["summary"]
    assert listed["sam3"]["status"] == "unavailable"
    assert "accept its terms" in listed["sam3"]["why_not"]
    base = {one["id"]: one for one in page.predict(preset="base", api_name="/list_methods")}
    assert base[GUIDED]["status"] == "untrained"


def test_suggestions_as_the_function(page: Client, files: Path, tiny: Backbones) -> None:
    names = "red heart, tree, checked star"
    answer = page.predict(
        image=handle_file(files / "photo.png"), vocabulary=names, count=2, api_name="/suggest"
    )
    expected = suggest(EncodedImage(open_image(files / "photo.png")), tiny, names.split(", "), 2)
    assert [one["name"] for one in answer] == [one.name for one in expected]
    assert answer[0]["presence"] == pytest.approx(expected[0].presence, abs=1e-5)


@pytest.mark.parametrize("truth", ["ids.png", "second.png"])
def test_comparison_with_a_truth(
    page: Client, files: Path, classes: str, tiny: Backbones, truth: str
) -> None:
    answer = page.predict(
        image=handle_file(files / "photo.png"),
        truth=handle_file(files / truth),
        classes=classes,
        methods=[GUIDED],
        truth_class=classes.split(", ")[1] if truth == "second.png" else "",
        api_name="/compare_with_truth",
    )
    prediction = direct(tiny, files, classes, GUIDED)
    scores = {score["text"]: score for score in answer["methods"][0]["classes"]}
    assert list(scores) == classes.split(", ")[truth == "second.png" :]
    ids = np.asarray(Image.open(files / "ids.png"))
    for number, text in enumerate(classes.split(", "), start=1):
        if text in scores:
            mask = prediction.class_mask(number - 1)
            counts = count(mask, ids == number, np.ones(ids.shape, bool))
            assert scores[text]["iou"] == pytest.approx(iou(counts))
            assert scores[text]["dice"] == pytest.approx(dice(counts))
            assert scores[text]["area_fraction"] == pytest.approx(mask.mean())
    mean = np.mean([score["iou"] for score in scores.values()])
    assert answer["methods"][0]["mean_iou"] == pytest.approx(mean)


BAD = {
    "no class": ({"classes": " , "}, "Enter at least one class name"),
    "a class twice": ({"classes": "dog, Dog"}, "given twice"),
    "classes that are no text": ({"classes": 7}, "classes must be a string"),
    "no method": ({"methods": []}, "at least one method"),
    "an unknown method": ({"methods": ["sam-9"]}, "There is no method “sam-9”"),
    "an unknown mode": ({"methods": ["sam:best"]}, "has no mode “best”"),
    "a method without weights": ({"methods": ["sam3"]}, "SAM 3 is not available: needs"),
    "an untrained method": ({"preset": "base"}, "is not available: not trained for base"),
    "an unknown preset": ({"preset": "giant"}, "There is no preset “giant”"),
    "a point outside": ({"points": [["dog", 9999, 1, 1]]}, "lies outside the image"),
    "a point of no class": (
        {"points": [["cat", 1, 1, 1]]},
        "“cat” is not one of the requested classes",
    ),
    "half a point": ({"points": [["dog", 1, 1]]}, "A point is [class, x, y, label]"),
    "a point of words": ({"points": [["dog", "a", "b", 1]]}, "A point is [class, x, y, label]"),
    "another label": ({"points": [["dog", 1, 1, 2]]}, "1 (foreground) or 0 (background)"),
    "an empty box": ({"boxes": [["dog", 9, 9, 1, 1]]}, "x0 < x1"),
    "boxes that are none": ({"boxes": "dog"}, "A box is [class, x0, y0, x1, y1]"),
    "a threshold in words": ({"threshold": "low"}, "threshold is 'low'"),
    "half a seed": ({"seed": 0.5}, "seed is 0.5"),
    "other masks": ({"masks": "gif"}, "expected png or rle"),
    "no picture": ({"image": None}, "must be an uploaded file or a data URL"),
    "damaged base64": ({"image": "data:image/png;base64,%%"}, "without valid base64"),
    "base64 of no picture": ({"image": "data:image/png;base64,aGVsbG8="}, "not a supported image"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_requests_are_one_sentence(
    page: Client, files: Path, kind: str, capfd: pytest.CaptureFixture
) -> None:
    change, part = BAD[kind]
    fine = {"image": handle_file(files / "photo.png"), "classes": "dog", "methods": [GUIDED]}
    with pytest.raises(AppError) as caught:
        page.predict(**(fine | change), api_name="/segment")
    assert part in str(caught.value) and "\n" not in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err


def test_a_truth_that_does_not_fit(page: Client, files: Path, tmp_path: Path) -> None:
    Image.new("L", (3, 2)).save(tmp_path / "small.png")
    for truth, asked, part in (
        (tmp_path / "small.png", "", "3 × 2 pixels"),
        (files / "second.png", "", "Select the class"),
        (files / "second.png", "cat", "“cat” is not one of the requested classes"),
    ):
        with pytest.raises(AppError, match=re.escape(part)):
            page.predict(
                image=handle_file(files / "photo.png"),
                truth=handle_file(truth),
                classes="dog, grass",
                methods=[GUIDED],
                truth_class=asked,
                api_name="/compare_with_truth",
            )


@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}])
def test_no_file_of_the_server_is_read(page: Client, files: Path, meta: dict) -> None:
    outside = files / "photo.png"
    assert not outside.is_relative_to(get_upload_folder())
    request = {"image": {"path": str(outside), **meta}, "classes": "dog", "methods": [GUIDED]}
    said = http(page.src, "segment", request)
    assert "event: error" in said and "counts" not in said and "mask" not in said
    assert "upload" in said and str(outside) not in said


def test_an_address_that_is_not_reached_is_one_sentence(page: Client) -> None:
    image = {"path": "http://127.0.0.1:9/cat.png", "meta": {"_type": "gradio.FileData"}}
    said = http(page.src, "segment", {"image": image, "classes": "dog", "methods": [GUIDED]})
    assert "event: error" in said and "Upload files, or send them as data URLs" in said


def test_too_few_values_are_listed(page: Client) -> None:
    said = http(page.src, "segment", {"data": ["photo.png", "dog"]}, path="segment")
    assert "event: error" in said and "image, classes, methods, preset" in said
    assert "there were 2." in said


def test_values_left_out_at_the_end_have_their_defaults(page: Client, files: Path) -> None:
    """A call that was written before an argument was added stays valid."""
    content = base64.b64encode((files / "photo.png").read_bytes()).decode()
    image = f"data:image/png;base64,{content}"
    short = {"data": [image, "dog", [GUIDED], "tiny", None, None, 0, 0, "rle"]}
    named = {"image": image, "classes": "dog", "methods": [GUIDED], "masks": "rle"}
    answers = [http(page.src, "segment", short, path="segment"), http(page.src, "segment", named)]
    masks = [
        json.loads(said.split("data: ")[1])[0]["methods"][0]["classes"][0]["mask"]
        for said in answers
    ]
    assert masks[0] == masks[1]


def http(address: str, function: str, request: dict, path: str | None = None) -> str:
    """What ``curl`` gets in two steps."""
    base = f"{address.rstrip('/')}/gradio_api/call"
    asked = ["curl", "-s", "-H", "Content-Type: application/json"]
    asked.append(f"{base}/{path or f'v2/{function}'}")
    said = subprocess.check_output([*asked, "-d", "@-"], input=json.dumps(request).encode())
    event = json.loads(said)["event_id"]
    return subprocess.check_output(["curl", "-s", "-N", f"{base}/{function}/{event}"], text=True)


def test_over_http(page: Client) -> None:
    said = http(page.src, "list_methods", {"preset": "tiny"})
    assert said.startswith("event: complete")
    assert {one["id"] for one in json.loads(said.split("data: ")[1])[0]} == set(methods())
    said = http(page.src, "list_methods", {"preset": "giant"})
    assert said.startswith("event: error") and "There is no preset" in said


def test_agents_find_the_tools_and_can_call_them(page: Client, files: Path, classes: str) -> None:
    content = base64.b64encode((files / "photo.png").read_bytes()).decode()
    request = {
        "image": f"data:image/png;base64,{content}",
        "classes": classes,
        "methods": [GUIDED],
        "masks": "rle",
    }

    async def talk() -> tuple[list, object, object]:
        where = f"{page.src.rstrip('/')}/gradio_api/mcp/"
        async with (
            streamable_http_client(where) as (reads, writes, _),
            ClientSession(reads, writes) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            fine = await session.call_tool("segment", request)
            return tools, fine, await session.call_tool("segment", request | {"methods": ["no"]})

    # In a thread of its own: after a browser test there is a loop in this one.
    with ThreadPoolExecutor(1) as pool:
        tools, fine, bad = pool.submit(asyncio.run, talk()).result()
    assert {tool.name for tool in tools} == FUNCTIONS
    for tool in tools:
        assert len(tool.description) > 80
        for field in tool.inputSchema["properties"].values():
            assert field["description"]
            assert {"type", "enum", "oneOf"} & set(field)
    segment = next(tool for tool in tools if tool.name == "segment").inputSchema
    assert segment["required"] == ["image", "classes", "methods"]
    assert segment["properties"]["preset"]["enum"] == list(PRESETS)
    assert segment["properties"]["image"]["type"] == "string"
    assert not fine.isError
    answered = ast.literal_eval(fine.content[0].text)
    assert answered["methods"][0]["classes"][0]["text"] == classes.split(", ")[0]
    assert bad.isError and "There is no method “no”" in bad.content[0].text


def test_the_documented_calls_work(page: Client, files: Path) -> None:
    _, _, section = API_PAGE.read_text(encoding="utf-8").partition("\n## From another program\n")
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", section.partition("\n## ")[0], re.DOTALL))
    scripts = {
        language: text.replace("http://127.0.0.1:7860", page.src.rstrip("/"))
        for language, text in blocks.items()
    }
    for command in ([sys.executable, "-c", scripts["python"]], ["sh", "-c", scripts["sh"]]):
        done = subprocess.run(command, cwd=files, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        if command[0] == "sh":
            assert done.stdout.startswith("event: complete")
            answer = json.loads(done.stdout.split("data: ")[1])[0]
            assert len(answer["methods"][0]["classes"]) == 2
        else:
            assert (
                len(
                    re.findall(
                        r"^(?:clip-guided-sam|clip-surgery-sam|sam) (?:dog|grass) .*png$",
                        done.stdout,
                        re.MULTILINE,
                    )
                )
                == 6
            )
