"""Who is measured: reuse and linear forecasting at two cache ratios, the whole stack, and the rivals that can run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from ... import cached

Compute = Callable[[int], None]  # told before each step: its index


@dataclass(frozen=True)
class Ours:
    """On a list of computed steps; ``order`` 0: reuse (SyncCache), 1: linear.

    Segments between injection sites; not ``decoupled`` the whole stack, injections absorbed.
    """

    label: str
    cache_ratio: float
    order: int
    decoupled: bool = True

    @contextmanager
    def on(self, network: nn.Module, schedule: Sequence[int], steps: int) -> Iterator[Any]:
        """Attach to ``network``; gives the handle."""
        with cached(
            network, "schedule", schedule=list(schedule), order=self.order, cache_ratio=self.cache_ratio,
            decoupled=self.decoupled, steps=steps,
        ) as handle:  # fmt: skip
            yield handle


OURS = (
    Ours("synccache, ratio 1", 1.0, 0),
    Ours("synccache, ratio 0.4", 0.4, 0),
    Ours("linear, ratio 1", 1.0, 1),
    Ours("linear, ratio 0.4", 0.4, 1),
    Ours("whole stack", 1.0, 0, decoupled=False),
)


@dataclass(frozen=True)
class Rival:
    """Another library's cache, made to compute the same steps.

    Attributes:
        module: what has to be importable.
        attach: (network, computed steps, number of steps) to a function that is told each step before it is run.
    """

    label: str
    module: str
    attach: Callable[[nn.Module, Sequence[int], int], Compute]

    def missing(self, network: nn.Module) -> str | None:
        """Why it can't run on this model, or None."""
        if importlib.util.find_spec(self.module) is None:
            return "not installed"
        return None if _of_diffusers(network) else "does not know this model"


def _of_diffusers(network: nn.Module) -> bool:
    return type(network).__module__.startswith("diffusers.")


def _first_block_cache(network: Any, schedule: Sequence[int], steps: int) -> Compute:
    """Diffusers' first-block cache with a threshold that nothing reaches, reset before each step to be computed."""
    from diffusers import FirstBlockCacheConfig

    network.enable_cache(FirstBlockCacheConfig(threshold=1e30))
    inner = network.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with network.cache_context("cond"):
            return inner(*args, **kwargs)

    network.forward = forward

    def before(step: int) -> None:
        if step in schedule:
            network._reset_stateful_cache()

    return before


def _cache_dit(network: Any, schedule: Sequence[int], steps: int) -> Compute:
    """cache-dit's DBCache with one block that always runs and a mask of the steps to compute."""
    import cache_dit

    def settings() -> Any:
        return cache_dit.DBCacheConfig(
            Fn_compute_blocks=1, Bn_compute_blocks=0, max_warmup_steps=0, residual_diff_threshold=1e30,
            enable_separate_cfg=False, num_inference_steps=steps,
            steps_computation_mask=[int(i in schedule) for i in range(steps)], steps_computation_policy="static",
        )  # fmt: skip

    cache_dit.enable_cache(network, cache_config=settings())

    def before(step: int) -> None:
        if step == 0:
            cache_dit.refresh_context(network, cache_config=settings())

    return before


RIVALS = (
    Rival("diffusers first-block cache", "diffusers", _first_block_cache),
    Rival("cache-dit", "cache_dit", _cache_dit),
)
