"""The report of an evaluation: one self-contained HTML file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from scipy import ndimage

from ..data.samples import LabelledImage, SegmentationData
from ..drawing import class_colour, data_uri, fit_size, outline
from ..encoded_image import EncodedImage
from ..predictor import Predictor
from ..protocols import find_protocol
from .metric_table import ABSENT_COLUMNS, MASK_AP_NOTE, columns
from .metrics import SampleScore, iou
from .rows import Row
from .runner import MethodRun, prompt_of

WORST = 12
"""Images per method."""

PICTURE_SIDE = 300
"""Long side of an image, pixels."""

SHOWN_SEED = 0

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; background: #fff; margin: 2rem auto;
  max-width: 1180px; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .5rem; }
h3 small, .note, dt { color: #5b6675; font-weight: 400; }
.note { font-size: .87rem; max-width: 60rem; margin: .5rem 0; }
code { font-size: .85rem; background: #f3f5f8; padding: .45rem .7rem; border-radius: 6px;
  display: block; overflow-wrap: anywhere; margin: .8rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.2rem; margin: 0; }
dd { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .55rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #e6e9ee; }
th { font-weight: 600; border-bottom: 2px solid #cfd5dd; white-space: normal; max-width: 8.5rem;
  vertical-align: bottom; line-height: 1.3; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
td small { display: inline-block; }
td small { color: #7a8594; } td b { font-weight: 700; }
.plots img { max-width: 100%; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr));
  gap: .9rem; align-items: start; }
figure { margin: 0; font-size: .84rem; line-height: 1.35; }
figure img { width: 100%; height: 12rem; object-fit: contain; background: #f3f5f8;
  border-radius: 6px; display: block; margin-bottom: .25rem; }
figcaption span { color: #5b6675; overflow-wrap: anywhere; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .4em; }
"""


MethodKey = tuple[str, str]
"""Key and mode of a method."""


def write_report(
    results: Mapping,
    rows: Sequence[Row],
    data: SegmentationData,
    predictors: Mapping[str, Predictor],
    runs: Sequence[MethodRun],
) -> str:
    """Format the report as HTML.

    Args:
        results: content of ``results.json``.
        rows: all of them.
        data: the images that were scored; those of the worst samples are read and predicted again.
        predictors: methods by the keys in ``runs``.
        runs: the runs.
    """
    settings = results["settings"]
    colours = {(run.method, run.mode): class_colour(i) for i, run in enumerate(runs)}
    labels = _labels(predictors, runs)
    ranked = sorted(results["methods"], key=lambda m: -_orderly(m["mean"]["miou"]))
    sections = [
        _introduction(results),
        _leaderboard(ranked, labels, colours, settings),
        _plots(ranked, labels, colours, rows),
        _with_absent(ranked, labels, settings),
        _classes(ranked, labels, rows),
        _worst(ranked, labels, colours, rows, data, predictors, runs),
    ]
    title = escape(f"{settings['data']}, {settings['part']}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation: {title}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _labels(predictors: Mapping[str, Predictor], runs: Sequence[MethodRun]) -> dict[MethodKey, str]:
    """Label each run by the method's name and mode, and by its key if these are ambiguous."""
    names = {
        (run.method, run.mode): f"{predictors[run.method].info.name}, {run.mode}" for run in runs
    }
    listed = list(names.values())
    return {
        method_key: name if listed.count(name) == 1 else f"{name} ({method_key[0]})"
        for method_key, name in names.items()
    }


def _key(method: Mapping) -> MethodKey:
    """Return the key and mode of an entry of ``results.json``'s methods."""
    return method["method"], method["mode"]


def _introduction(results: Mapping) -> str:
    settings = results["settings"]
    count = results["images"]
    images = f"{count} image{'s' if count != 1 else ''}"
    if settings["limit"] is not None:
        images += ", drawn at random"
    with_class = results["methods"][0]["mean"]["images"]
    if with_class < count:
        images += f"; {with_class:.0f} of them contain a class"
    facts = {
        "Data": settings["data"],
        "Part": f"{settings['part']}: {images}",
        "Preset": settings["preset"],
        "Points": f"{settings['clicks']} per class in manual modes, sampled inside the truth",
        "Seeds": ", ".join(map(str, range(settings["seeds"]))) + " (of the sampled points)",
        "Hardware": f"{results['hardware']}; PyTorch {results['torch']}",
    }
    if settings["protocol"] is not None:
        protocol = find_protocol(settings["protocol"])
        facts["Protocol"] = f"{protocol.name} ({protocol.source})"
    listed = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return (
        f"<h1>Text-guided SAM on {escape(settings['data'])}</h1>"
        f"<code>{escape(results['command'])}</code><dl>{listed}</dl>"
        '<p class="note"><b>Presence oracle:</b> as in the papers, methods are queried only '
        "for classes present in an image. All figures rely on it unless stated otherwise. Images "
        "are scored at their own resolution, masks are logits above 0, and unlabelled pixels are "
        "not scored.</p>"
    )


def _leaderboard(
    ranked: Sequence[Mapping],
    labels: Mapping[MethodKey, str],
    colours: Mapping[MethodKey, str],
    settings: Mapping,
) -> str:
    shown_metrics = columns(ranked[0]["mean"])
    best = {}
    for key, metric in shown_metrics.items():
        values = [method["mean"][key] for method in ranked]
        best[key] = min(values) if metric.lower_is_better else max(values)
    lines = []
    for method in ranked:
        cells = [
            f'<i class="key" style="background:{colours[_key(method)]}"></i>'
            + escape(labels[_key(method)])
        ]
        for key, metric in shown_metrics.items():
            factor, digits = metric.factor, metric.digits
            mean = method["mean"][key]
            shown = f"{factor * mean:.{digits}f}"
            if mean == best[key] and len(ranked) > 1:
                shown = f"<b>{shown}</b>"
            if settings["seeds"] > 1:
                shown += f" <small>± {factor * method['std'][key]:.{digits}f}</small>"
            cells.append(shown)
        lines.append(cells)
    scaled = ""
    if settings["single_object"]:
        scaled = (
            " S-measure, E-measure, weighted F and scaled MAE are computed on the "
            "min–max-scaled map."
        )
    objects = f" {MASK_AP_NOTE}" if "mask_ap" in shown_metrics else ""
    spread = "Mean ± standard deviation over seeds. " if settings["seeds"] > 1 else ""
    return (
        "<h2>Leaderboard</h2>"
        + _table(["method", *(metric.heading for metric in shown_metrics.values())], lines)
        + f'<p class="note">{spread}mIoU pools the pixels of each class over the set and averages '
        "over classes; mean IoU, Dice, MAE and boundary F are averages over samples (a class in "
        f"an image). Boundary F has a tolerance of 0.75 % of the image’s diagonal.{scaled}"
        f"{objects} Seconds are for prediction alone; features shared by several methods or seeds "
        "are computed once per image and counted at first use, so later methods and seeds appear "
        "faster than they would be on their own.</p>"
    )


def _plots(
    ranked: Sequence[Mapping],
    labels: Mapping[MethodKey, str],
    colours: Mapping[MethodKey, str],
    rows: Sequence[Row],
) -> str:
    height = max(2.9, 0.42 * len(ranked) + 1.1)
    figure = Figure(figsize=(11, height), layout="constrained")
    bars, curves = figure.subplots(1, 2)
    shown = ranked[::-1]
    places = np.arange(len(shown))
    means = [100 * method["mean"]["miou"] for method in shown]
    bars.barh(
        places,
        means,
        height=0.5,
        xerr=[100 * method["std"]["miou"] for method in shown],
        color=[colours[_key(method)] for method in shown],
        ecolor="#1c2430",
        capsize=3,
    )
    for place, mean in zip(places, means, strict=True):
        bars.text(1, place, f"{mean:.1f}", va="center", color="#1c2430", fontsize=9)
    bars.set_yticks(places, [labels[_key(method)] for method in shown])
    bars.set_xlim(0, 100)
    bars.set_xlabel("class-wise mIoU, %")
    for method in ranked:
        key = _key(method)
        values = np.sort([_sample_iou(row.score) for row in rows if _shows(row, key)])
        share = np.arange(1, len(values) + 1) / len(values)
        curves.step(
            [0, *(100 * values), 100],
            [0, *(100 * share), 100],
            where="post",
            color=colours[key],
            label=labels[key],
            linewidth=1.8,
        )
    curves.set_xlim(0, 100)
    curves.set_ylim(0, 100)
    curves.set_xlabel("IoU of a sample, %")
    curves.set_ylabel("samples no better, %")
    curves.grid(color="#e6e9ee")
    for axes in (bars, curves):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    encoded = base64.b64encode(stream.getvalue()).decode()
    return (
        '<h2>Plots</h2><p class="plots"><img alt="mIoU of each method, and distribution of IoU '
        f'over samples" src="data:image/png;base64,{encoded}"></p><p class="note">Right: share of '
        "samples with at most this IoU; curves further down and to the right are better.</p>"
    )


def _with_absent(
    ranked: Sequence[Mapping], labels: Mapping[MethodKey, str], settings: Mapping
) -> str:
    if settings["absent"] is None:
        return ""
    lines = []
    for method in ranked:
        cells = [escape(labels[_key(method)]), f"{100 * method['mean']['miou']:.1f}"]
        for key in ABSENT_COLUMNS:
            seeds = [seed["with_absent"] for seed in method["seeds"]]
            known = [100 * seed[key] for seed in seeds if seed is not None]
            mean = float(np.mean(known)) if known else math.nan
            cells.append("–" if math.isnan(mean) else f"{mean:.1f}")
        lines.append(cells)
    which = "All classes" if settings["absent"] == "all" else f"Up to {settings['absent']} classes"
    return (
        "<h2>Without the presence oracle</h2>"
        + _table(["method", "mIoU %, oracle", *ABSENT_COLUMNS.values()], lines)
        + f'<p class="note">{which} absent from an image are queried too. Pixels predicted for '
        "them count in the class’s union. “Emptied”: a mask counts as empty if the method’s own "
        "presence is below ½. False alarms: share of absent classes with a non-empty mask. A "
        "dash: manual modes are left out, since there is nothing to click on; or the method "
        "reports no presence.</p>"
    )


def _classes(
    ranked: Sequence[Mapping], labels: Mapping[MethodKey, str], rows: Sequence[Row]
) -> str:
    samples: dict[str, set[str]] = {}
    for row in rows:
        if row.score.present:
            samples.setdefault(row.score.name, set()).add(row.score.image)
    lines = []
    for name in sorted(samples, key=lambda name: (-len(samples[name]), name)):
        cells: list[str | tuple[str, str]] = [escape(name), str(len(samples[name]))]
        for method in ranked:
            values = [seed["classes"][name] for seed in method["seeds"]]
            cells.append(_heat(float(np.mean(values))))
        lines.append(cells)
    heads = ["class", "images", *(escape(labels[_key(method)]) for method in ranked)]
    return (
        "<h2>Classes</h2>"
        + _table(heads, lines)
        + '<p class="note">Pooled IoU in %, averaged over seeds; most frequent classes first.</p>'
    )


def _heat(value: float) -> tuple[str, str]:
    """Format a value in 0..1 as a table cell, darker for better values."""
    return f"{100 * value:.1f}", f"background:rgba(31,111,214,{0.65 * value:.2f})"


def _worst(
    ranked: Sequence[Mapping],
    labels: Mapping[MethodKey, str],
    colours: Mapping[MethodKey, str],
    rows: Sequence[Row],
    data: SegmentationData,
    predictors: Mapping[str, Predictor],
    runs: Sequence[MethodRun],
) -> str:
    run_of = {(run.method, run.mode): run for run in runs}
    chosen = {_key(method): worst_samples(rows, *_key(method)) for method in ranked}
    wanted = {score.image for scores in chosen.values() for score in scores}
    figures: dict[tuple[MethodKey, str, str], str] = {}
    for index, key in enumerate(data.keys):
        if key not in wanted:
            continue
        sample = data[index]
        encoded = EncodedImage(sample.image)
        for method_key, scores in chosen.items():
            names = [score.name for score in scores if score.image == key]
            predictor = predictors[method_key[0]]
            pictures = _pictures(
                sample, encoded, predictor, run_of[method_key], names, colours[method_key]
            )
            for name, picture in pictures.items():
                figures[method_key, key, name] = picture
    parts = []
    for method_key, scores in chosen.items():
        shown = "".join(
            f'<figure><img alt="" src="{figures[method_key, score.image, score.name]}"><figcaption>'
            f"<b>{escape(score.name)}</b>, IoU {100 * _sample_iou(score):.1f} %<br>"
            f"<span>{escape(score.image)}</span></figcaption></figure>"
            for score in scores
        )
        parts.append(f'<h3>{escape(labels[method_key])}</h3><div class="pictures">{shown}</div>')
    return (
        f'<h2>Worst samples</h2><p class="note">Lowest IoU with seed {SHOWN_SEED}, ties by largest '
        "area. White line: ground truth. Colour: prediction. Dots: points used as SAM "
        "prompts.</p>" + "".join(parts)
    )


def worst_samples(rows: Sequence[Row], method: str, mode: str) -> list[SampleScore]:
    """Return the :data:`WORST` present samples of lowest IoU with the shown seed, ties by area."""
    scores = [row.score for row in rows if _shows(row, (method, mode)) and row.seed == SHOWN_SEED]
    return sorted(scores, key=lambda s: (_sample_iou(s), -s.counts.truth, s.image))[:WORST]


def _pictures(
    sample: LabelledImage,
    encoded: EncodedImage,
    predictor: Predictor,
    run: MethodRun,
    names: Sequence[str],
    colour: str,
) -> dict[str, str]:
    """Draw a run's predictions for classes of an image, as data URIs by class name."""
    if not names:
        return {}
    prompt = prompt_of(sample, run.clicks, SHOWN_SEED, run.synonyms)
    options = replace(run.options, mode=run.mode, seed=SHOWN_SEED)
    prediction = predictor.predict(encoded, prompt, options)
    height, width = fit_size(encoded.size, PICTURE_SIDE)
    image = np.asarray(Image.fromarray(sample.image).resize((width, height)))
    scale = np.array([width / encoded.size[1], height / encoded.size[0]])
    fill = np.array(list(bytes.fromhex(colour[1:])), float)
    pictures = {}
    for index, value in enumerate(sample.present()):
        name = prediction.texts[index]
        if name not in names:
            continue
        found = prediction.class_mask(index, size=(height, width))
        truth = np.asarray(Image.fromarray(sample.classes == value).resize((width, height)))
        shown = np.where(found[..., None], 0.4 * image + 0.6 * fill, image)
        shown[outline(truth)] = 255
        # The dark rim keeps the white line visible on sky and on snow.
        shown[ndimage.binary_dilation(truth) & ~truth] = 30
        picture = Image.fromarray(shown.astype(np.uint8))
        draw = ImageDraw.Draw(picture)
        prompts = prediction.results[index].prompts
        for x, y in prompts.points[prompts.labels == 1] * scale:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill="#ff3860", outline="white")
        pictures[name] = data_uri(picture, "JPEG", quality=85)
    return pictures


def _table(heads: Sequence[str], lines: Sequence[Sequence[str | tuple[str, str]]]) -> str:
    """Format an HTML table; a cell is HTML, or HTML and its style."""
    head = "".join(f"<th>{text}</th>" for text in heads)
    body = []
    for line in lines:
        cells = [
            f"<td>{cell}</td>" if isinstance(cell, str) else f'<td style="{cell[1]}">{cell[0]}</td>'
            for cell in line
        ]
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(body)}</table></div>'


def _shows(row: Row, method_key: MethodKey) -> bool:
    return (row.method, row.mode) == method_key and row.score.present


def _sample_iou(score: SampleScore) -> float:
    return iou(score.counts) if score.counts.union else 1.0


def _orderly(value: float) -> float:
    """Replace NaN, which has no order, by the lowest value."""
    return -1.0 if math.isnan(value) else value
