"""Training batches one after the other, made where they are used or in processes beside the training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from .data import Batch, Shape, World

Plan = Callable[[int], tuple[str, Shape, int]]  # task, shape and number of a step's batch


class Steps(Dataset):
    """Item ``i`` is the batch of step ``i``; the world is made when the first one is asked for."""

    def __init__(self, seed: int, plan: Plan, world: World | None = None) -> None:
        self.seed, self.plan, self.world = seed, plan, world

    def __getitem__(self, step: int) -> Batch:
        self.world = self.world or World(self.seed)
        return self.world.batch(*self.plan(step))


def batches(data: Steps, first: int, end: int, workers: int = 0) -> Iterator[Batch]:
    """The batches of the steps from ``first`` to ``end``, in order.

    Args:
        workers: processes that render ahead; 0 renders when a batch is asked for. They are spawned: one forked beside
            the threads of a running training can inherit a lock that nobody frees.
    """
    extra: dict[str, Any] = {}
    if workers:
        extra = {"prefetch_factor": 4, "multiprocessing_context": "spawn", "worker_init_fn": _give_way}
    yield from DataLoader(data, batch_size=None, sampler=range(first, end), num_workers=workers, **extra)


def _give_way(_: int) -> None:
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(5)
