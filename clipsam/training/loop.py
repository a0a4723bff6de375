"""One training loop for every stage: resumable, logged, alike on CPU, GPU and several of them."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..types import PromptError
from ..writing import replacing, unwritable, write_text

logger = logging.getLogger(__name__)

Batch = dict[str, Tensor]

Watch = Callable[[int, Mapping[str, float]], bool]
"""Called after a step with the steps done and its figures; true ends the training there."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps.
        batch_size: samples per step, over all processes and accumulated parts.
        accumulate: parts that a process computes one after the other for one step.
        warmup: steps of linear warm-up.
        schedule: of the learning rate after it: ``constant``, or a ``cosine`` to zero.
        clip_norm: largest gradient norm; ``None`` does not limit it.
        precision: ``bfloat16`` (autocast), ``float32``, or ``auto``: the former where the hardware
            multiplies in it.
        validate_steps: steps between validations, if there is something to validate.
        save_seconds: time between checkpoints.
        workers: loader processes.
        seconds: of training after which it ends, if the steps have not; the schedule then follows
            the clock. For one process alone: several would not end together.
    """

    steps: int
    batch_size: int
    accumulate: int = 1
    warmup: int = 100
    schedule: Literal["constant", "cosine"] = "cosine"
    clip_norm: float | None = 1.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    validate_steps: int = 100
    save_seconds: float = 120.0
    workers: int = 1
    seconds: float | None = None


class Stage(Protocol):
    """What the loop needs to know of a stage."""

    name: str

    @property
    def module(self) -> nn.Module:
        """Everything that the stage trains; what of it is trainable is saved in checkpoints."""
        ...

    def parameter_groups(self) -> list[dict]:
        """AdamW parameter groups, each with its peak ``lr`` and ``weight_decay``."""
        ...

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch, a mean over its samples, and figures for the log."""
        ...


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        seconds: of training, earlier tries included.
        steps: done in all.
        best_step: steps after which the weights were kept; the last without validation.
        best_score: what validation gave them; ``None`` without validation.
    """

    seconds: float
    steps: int
    best_step: int
    best_score: float | None


def matrix_decay_groups(module: nn.Module, lr: float, weight_decay: float) -> list[dict]:
    """AdamW groups of what is trainable: weight decay on matrices, none on biases and norms."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    return [
        {"params": matrices, "lr": lr, "weight_decay": weight_decay},
        {"params": vectors, "lr": lr, "weight_decay": 0.0},
    ]


def start_accelerator() -> Accelerator:
    """Start this process's accelerator; ``accelerate launch`` starts several processes.

    Its device is a GPU if there is one.

    Parts of a network may get no gradient in a step (a prompt encoder's boxes, when all samples
    have points), which PyTorch must be told.
    """
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[unused])


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the type of matrix products; ``None`` for float32."""
    if precision == "auto":
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        fast = device.type == "cuda" or supported()
        return torch.bfloat16 if fast else None
    return torch.bfloat16 if precision == "bfloat16" else None


class _Forward(nn.Module):
    """A stage's loss as the forward pass of its module, which is what several processes share."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.module = stage.module
        self._loss = stage.loss

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        return self._loss(batch)


@dataclass(frozen=True)
class _StepSampler:
    """Indices of each part of each step for one process: step s owns samples s·B … (s+1)·B − 1."""

    config: LoopConfig
    start: int
    rank: int
    processes: int

    def __iter__(self) -> Iterator[list[int]]:
        batch, parts = self.config.batch_size, self.config.accumulate
        size = batch // (self.processes * parts)
        for step in range(self.start, self.config.steps):
            for part in range(parts):
                first = step * batch + (part * self.processes + self.rank) * size
                yield list(range(first, first + size))

    def __len__(self) -> int:
        return (self.config.steps - self.start) * self.config.accumulate


def train(
    stage: Stage,
    samples: Dataset,
    config: LoopConfig,
    folder: Path,
    validate: Callable[[], float] | None = None,
    watch: Watch | None = None,
) -> TrainResult:
    """Run a stage to its end, from its last checkpoint if there is one.

    Sample i belongs to step i // batch_size, and each step seeds its own chance, so an interrupted
    run goes on as if it had not been. The module ends with the weights that validated best.

    Args:
        stage: what to train.
        samples: gives sample i for any i ≥ 0, always the same.
        config: how long and how fast.
        folder: for ``<stage>.pt``, the checkpoint, and ``<stage>.jsonl``, a line per step.
        validate: called now and then with the module in evaluation mode; higher is better.
        watch: see :data:`Watch`; in one process alone.

    Raises:
        PromptError: the batch cannot be shared out evenly.
    """
    accelerator = start_accelerator()
    device, main = accelerator.device, accelerator.is_main_process
    shares = accelerator.num_processes * config.accumulate
    if config.batch_size % shares:
        raise PromptError(
            f"A batch of {config.batch_size} cannot be shared out evenly over "
            f"{accelerator.num_processes} processes × {config.accumulate} accumulated parts."
        )
    folder.mkdir(parents=True, exist_ok=True)
    module = stage.module.to(device).train()
    optimizer = torch.optim.AdamW(stage.parameter_groups())
    peaks = [group["lr"] for group in optimizer.param_groups]  # a checkpoint brings later rates
    state = _State(stage, optimizer, folder / f"{stage.name}.pt")
    if state.load(device):
        logger.info("%s: resuming at step %d of %d", stage.name, state.step, config.steps)
    if state.step < config.steps:
        forward = accelerator.prepare_model(_Forward(stage))
        sampler = _StepSampler(
            config, state.step, accelerator.process_index, accelerator.num_processes
        )
        loader = DataLoader(
            samples,
            batch_sampler=sampler,
            num_workers=config.workers,
            pin_memory=device.type == "cuda",
        )
        batches = iter(loader)
        dtype = autocast_dtype(config.precision, device)
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        log = _Log(folder / f"{stage.name}.jsonl", state.step) if main else None
        steps = range(state.step, config.steps)
        progress = tqdm(
            steps, stage.name, config.steps, initial=state.step, mininterval=5, disable=not main
        )
        last_save = time.monotonic()
        for step in progress:
            began = time.monotonic()
            torch.manual_seed(step)
            rate = _schedule(step, state.seconds, config)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * rate
            optimizer.zero_grad(set_to_none=True)
            figures: dict[str, float] = {}
            for part in range(1, config.accumulate + 1):
                batch = {k: v.to(device, non_blocking=True) for k, v in next(batches).items()}
                last = part == config.accumulate
                with nullcontext() if last else accelerator.no_sync(forward):
                    with torch.autocast(device.type, dtype, enabled=dtype is not None):
                        loss, shown = forward(batch)
                    (loss / config.accumulate).backward()
                for key, value in {"loss": loss.item(), **shown}.items():
                    figures[key] = figures.get(key, 0.0) + value / config.accumulate
            if config.clip_norm is not None:
                nn.utils.clip_grad_norm_(trained, config.clip_norm)
            optimizer.step()
            figures = _mean_over_processes(figures, accelerator)
            state.step, state.seconds = step + 1, state.seconds + time.monotonic() - began
            last = step + 1 == config.steps or _time_is_up(state.seconds, config)
            if watch is not None and watch(state.step, figures):
                last = True
            due = (step + 1) % config.validate_steps == 0 or last
            if validate is not None and due:
                figures["validation"] = state.judge(validate, accelerator)
            if log is not None:
                log.write({"step": step, "lr_share": rate, **figures})
                progress.set_postfix({k: f"{v:.3f}" for k, v in figures.items()}, refresh=False)
                if time.monotonic() - last_save > config.save_seconds:
                    state.save()
                    last_save = time.monotonic()
            if last:
                break
        if log is not None:
            state.save()
            log.close()
        accelerator.wait_for_everyone()
    if state.best:
        module.load_state_dict(state.best, strict=False)
    return TrainResult(state.seconds, state.step, state.best_step or state.step, state.best_score)


class _State:
    """What a run must remember to go on as if it had not been interrupted."""

    def __init__(self, stage: Stage, optimizer: torch.optim.Optimizer, file: Path) -> None:
        self.module, self.optimizer, self.file = stage.module, optimizer, file
        self.step, self.seconds = 0, 0.0
        self.best: dict[str, Tensor] = {}
        self.best_step = 0
        self.best_score: float | None = None

    def weights(self) -> dict[str, Tensor]:
        """Return the trained weights; frozen ones come from elsewhere."""
        frozen = {name for name, p in self.module.named_parameters() if not p.requires_grad}
        state = self.module.state_dict()
        return {name: tensor for name, tensor in state.items() if name not in frozen}

    def judge(self, validate: Callable[[], float], accelerator: Accelerator) -> float:
        """Validate on the main process, and keep the weights if they are the best so far."""
        score = torch.zeros((), device=accelerator.device, dtype=torch.float64)
        if accelerator.is_main_process:
            self.module.eval()
            score += validate()
            self.module.train()
        value = accelerator.reduce(score, "sum").item()
        if self.best_score is None or value > self.best_score:
            self.best = {name: tensor.detach().clone() for name, tensor in self.weights().items()}
            self.best_step, self.best_score = self.step, value
        return value

    def save(self) -> None:
        """Write the checkpoint whole or not at all."""
        content = {
            "module": self.weights(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "best_step": self.best_step,
            "best_score": self.best_score,
        }
        with replacing(self.file) as partial:
            torch.save(content, partial)

    def load(self, device: torch.device) -> bool:
        """Take up the checkpoint; false if there is none."""
        if not self.file.exists():
            return False
        content = torch.load(self.file, map_location=device, weights_only=True)
        self.module.load_state_dict(content["module"], strict=False)
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.seconds = content["step"], content["seconds"]
        self.best, self.best_step = content["best"], content["best_step"]
        self.best_score = content["best_score"]
        return True


class _Log:
    """A JSON line per step; steps that an interrupted run will repeat are dropped first."""

    def __init__(self, file: Path, start: int) -> None:
        kept = file.read_text(encoding="utf-8").splitlines() if file.exists() and start else []
        kept = [line for line in kept if line.endswith("}") and json.loads(line)["step"] < start]
        write_text(file, "".join(line + "\n" for line in kept))
        self._file, self._stream = file, file.open("a", encoding="utf-8")

    def write(self, figures: dict[str, float]) -> None:
        try:
            self._stream.write(json.dumps({k: round(v, 6) for k, v in figures.items()}) + "\n")
            self._stream.flush()
        except OSError as error:
            raise unwritable(self._file, error) from None

    def close(self) -> None:
        self._stream.close()


def _mean_over_processes(figures: dict[str, float], accelerator: Accelerator) -> dict[str, float]:
    if accelerator.num_processes == 1:
        return figures
    values = torch.tensor(list(figures.values()), device=accelerator.device, dtype=torch.float64)
    mean = accelerator.reduce(values, "mean").tolist()
    return dict(zip(figures, mean, strict=True))


def _time_is_up(seconds: float, config: LoopConfig) -> bool:
    return config.seconds is not None and seconds >= config.seconds


def _schedule(step: int, seconds: float, config: LoopConfig) -> float:
    """Share of the peak learning rate at a step, after so many seconds."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.schedule == "constant":
        return 1.0
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    if config.seconds is not None:
        done = max(done, min(1.0, seconds / config.seconds))
    return 0.5 * (1 + math.cos(math.pi * done))
