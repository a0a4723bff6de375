"""Many clients at once: their answers, how many are refused, and how long they wait.

python -m benchmarks.load

Starts the page in a process of its own. First a single client asks every question; then all
clients at once, without and with a greedy one among them that asks for as many classes as one
request may have, again and again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
import httpx
import torch
from gradio_client import Client, handle_file

from clipsam.measure import hardware
from clipsam.workbench.limits import MAX_CLASSES
from tests.workbench.conftest import free_port

REPORT = Path(__file__).with_suffix(".md")

WORDS = ("cheetah", "grass", "sky", "fur", "ground", "eye", "tree", "water", "stone", "face")

METHOD = "clip-guided-sam"

START_SECONDS = 180
"""Time that the page may take to start, seconds."""


@dataclass
class Outcome:
    """What the clients of one round saw.

    Attributes:
        waits: seconds of each answered request.
        refused: sentences of requests that were not answered.
        wrong: number of answers that differ from the single client's.
    """

    waits: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    wrong: int = 0

    @property
    def refused_share(self) -> float:
        """Share of the requests that were refused."""
        return len(self.refused) / max(1, len(self.refused) + len(self.waits))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure both rounds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--requests", type=int, default=5)
    parser.add_argument("--no-report", action="store_true", help="print the table only")
    args = parser.parse_args(argv)
    with _page() as address:
        expected = [_ask(Client(address, verbose=False), question) for question in _questions()]
        alone = _round(address, args.clients, args.requests, expected)
        with _greedy(address) as greedy:
            beside = _round(address, args.clients, args.requests, expected)
    report = _report(args, alone, beside, greedy)
    if not args.no_report:
        REPORT.write_text(report, encoding="utf-8")
    sys.stdout.write(report)


def _questions() -> list[str]:
    """Return the class names of each question."""
    return [f"{word}, {other}" for word, other in zip(WORDS, WORDS[1:] + WORDS[:1], strict=True)]


def _ask(client: Client, classes: str) -> str:
    """Ask, and return the masks in a form that can be compared."""
    answer = client.predict(
        image=handle_file(gr.get_image("cheetah.jpg")),
        classes=classes,
        methods=[METHOD],
        masks="rle",
        api_name="/segment",
    )
    return json.dumps([one["mask"] for one in answer["methods"][0]["classes"]])


def _round(address: str, clients: int, requests: int, expected: Sequence[str]) -> Outcome:
    """Let all clients ask one question after the other, all at the same time."""
    outcome, lock = Outcome(), threading.Lock()
    questions = _questions()
    ready = threading.Barrier(clients)

    def work(number: int) -> None:
        client = Client(address, verbose=False)
        ready.wait()
        for request in range(requests):
            index = (number + request) % len(questions)
            began = time.perf_counter()
            try:
                answer = _ask(client, questions[index])
            except Exception as error:  # A refusal is what is counted here.
                with lock:
                    outcome.refused.append(str(error))
                continue
            with lock:
                outcome.waits.append(time.perf_counter() - began)
                outcome.wrong += answer != expected[index]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcome


@contextmanager
def _greedy(address: str) -> Iterator[Outcome]:
    """Let one more client ask for as many classes as it may during the block, without a pause."""
    outcome, ends = Outcome(), threading.Event()
    client = Client(address, verbose=False)
    classes = ", ".join(f"thing {number}" for number in range(MAX_CLASSES))

    def work() -> None:
        while not ends.is_set():
            began = time.perf_counter()
            job = client.submit(
                image=handle_file(gr.get_image("cheetah.jpg")),
                classes=classes,
                methods=[METHOD, "esc-net"],
                masks="rle",
                api_name="/segment",
            )
            while not (job.done() or ends.is_set()):
                time.sleep(0.05)
            if job.done():
                outcome.waits.append(time.perf_counter() - began)
            else:
                job.cancel()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield outcome
    finally:
        ends.set()
        thread.join()


@contextmanager
def _page() -> Iterator[str]:
    """Serve the page in a process of its own; yields its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        cwd=Path(__file__).resolve().parents[1],
    )
    address = f"http://127.0.0.1:{port}"
    try:
        limit = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(address, timeout=5)
                break
            except httpx.HTTPError:
                if time.monotonic() > limit or process.poll() is not None:
                    raise
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def _report(args: argparse.Namespace, alone: Outcome, beside: Outcome, greedy: Outcome) -> str:
    def row(name: str, outcome: Outcome) -> str:
        waits = sorted(outcome.waits) or [float("nan")]
        late = waits[int(0.9 * (len(waits) - 1))]
        return (
            f"| {name} | {statistics.median(waits):.2f} | {late:.2f} | {waits[-1]:.2f} | "
            f"{100 * outcome.refused_share:.1f} % | {outcome.wrong} |"
        )

    medians = [statistics.median(one.waits or [float("nan")]) for one in (alone, beside)]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "\n".join(
        [
            "# Many clients at once on `tiny`",
            "",
            f"Written by `python -m benchmarks.load --clients {args.clients} --requests "
            f"{args.requests}`:",
            "each client asks one question after the other, two classes and one method each; the "
            "greedy one",
            f"asks for {MAX_CLASSES} classes with two methods without a pause. Clients and page "
            "share one machine.",
            f"{hardware(device)}, torch {torch.__version__}.",
            "",
            "| | median wait, s | 90 % wait less, s | longest, s | refused | wrong answers |",
            "|---|---|---|---|---|---|",
            row("without a greedy client", alone),
            row("with a greedy client", beside),
            "",
            f"Ratio of the medians with / without: {medians[1] / medians[0]:.2f}. The greedy "
            f"client got {len(greedy.waits)} answers meanwhile.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
