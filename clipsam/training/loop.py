"""One training loop for every stage: resumable, logged, the same on CPU and GPU."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data.stream import TrainingStream

logger = logging.getLogger(__name__)

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps.
        batch_size: images per step.
        warmup: steps of linear warm-up, before a cosine to zero.
        clip_norm: largest gradient norm.
        save_seconds: time between checkpoints.
        workers: loader processes.
    """

    steps: int
    batch_size: int
    warmup: int = 100
    clip_norm: float = 1.0
    save_seconds: float = 120.0
    workers: int = 1


class Stage(Protocol):
    """What the loop needs to know of a stage."""

    name: str
    module: nn.Module
    """Holds everything that the stage trains; saved in its checkpoints."""

    def parameter_groups(self) -> list[dict]:
        """AdamW parameter groups, each with its peak ``lr`` and ``weight_decay``."""
        ...

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch and figures for the log."""
        ...


def matrix_decay_groups(module: nn.Module, lr: float, weight_decay: float) -> list[dict]:
    """AdamW parameter groups with weight decay on matrices, and none on biases and norms."""
    parameters = list(module.parameters())
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    return [
        {"params": matrices, "lr": lr, "weight_decay": weight_decay},
        {"params": vectors, "lr": lr, "weight_decay": 0.0},
    ]


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """bfloat16 where the hardware multiplies in it, else None."""
    if device.type == "cuda":
        return torch.bfloat16
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if supported() else None


def train(
    stage: Stage, stream: TrainingStream, config: LoopConfig, folder: Path, device: torch.device
) -> float:
    """Run a stage to its end, from its last checkpoint if there is one.

    Sample i of the stream belongs to step i // batch_size, and each step seeds its own chance, so
    an interrupted run goes on as if it had not been.

    Returns:
        Seconds of training, earlier tries included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / f"{stage.name}.pt"
    module = stage.module.to(device).train()
    optimizer = torch.optim.AdamW(stage.parameter_groups())
    peaks = [group["lr"] for group in optimizer.param_groups]
    start, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        start, seconds = state["step"], state["seconds"]
        logger.info("%s: resuming at step %d of %d", stage.name, start, config.steps)
    if start >= config.steps:
        return seconds

    stream.start = start * config.batch_size
    stream.length = (config.steps - start) * config.batch_size
    loader = DataLoader(stream, config.batch_size, num_workers=config.workers)
    dtype = autocast_dtype(device)
    began = last_save = time.monotonic()

    def save(step: int) -> None:
        state = {
            "module": module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "seconds": seconds + time.monotonic() - began,
        }
        partial = checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(checkpoint)

    log = (folder / f"{stage.name}.jsonl").open("a")
    progress = tqdm(loader, stage.name, total=config.steps, initial=start, mininterval=10)
    for step, batch in enumerate(progress, start=start):
        torch.manual_seed(step)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * _schedule(step, config)
        batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            loss, figures = stage.loss(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(
            [p for group in optimizer.param_groups for p in group["params"]], config.clip_norm
        )
        optimizer.step()
        if step % 20 == 0:
            figures = {"step": step, "loss": loss.item(), **figures}
            log.write(json.dumps({k: round(v, 4) for k, v in figures.items()}) + "\n")
            log.flush()
            progress.set_postfix({k: f"{v:.3f}" for k, v in figures.items() if k != "step"})
        if time.monotonic() - last_save > config.save_seconds:
            save(step + 1)
            last_save = time.monotonic()
    save(config.steps)
    log.close()
    return seconds + time.monotonic() - began


def _schedule(step: int, config: LoopConfig) -> float:
    """Share of the peak learning rate at a step."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))
