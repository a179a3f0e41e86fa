"""What the cache costs on the host, per block: ``python -m synccache.bench.hooks``.

The blocks do next to nothing, so that only what happens around them is seen. The unit is a block with a plain hook that
does nothing: what PyTorch itself takes for being watched.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import synccache

from ..forecasters import Reuse
from ..gates import Listed
from ..scopes import Modules, Segments, WholeStack

BLOCKS, TOKENS, WIDTH = 32, 16, 8
SITES = tuple(range(3, BLOCKS - 1, 4))
# At most so many units more than a block with a plain hook.
BARS = {
    "whole stack": {"computed": 4.0, "skipped": 3.0},
    "segments": {"computed": 4.0, "skipped": 5.0},
    "modules": {"computed": 20.0, "skipped": 20.0},
}
SCOPES = {"whole stack": WholeStack(), "segments": Segments(), "modules": Modules()}


class Part(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Block(nn.Module):
    """Two modules and a sum, next to nothing of arithmetic; ``parts=False``: the sum alone."""

    def __init__(self, parts: bool) -> None:
        super().__init__()
        if parts:
            self.attn1, self.attn2, self.ff = Part(), Part(), Part()
        self.parts = parts

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor) -> Tensor:
        if self.parts:
            self.attn1(hidden_states), self.attn2(hidden_states), self.ff(hidden_states)
        return hidden_states + temb


class Model(nn.Module):
    """Blocks with something added after each of ``SITES``, as audio modules do."""

    def __init__(self, parts: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(parts) for _ in range(BLOCKS))

    def forward(self, hidden_states: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, audio: Tensor) -> Tensor:
        temb = timestep.reshape(1, 1, 1) * 1e-6
        for index, block in enumerate(self.blocks):
            hidden_states = block(hidden_states, encoder_hidden_states=encoder_hidden_states, temb=temb)
            if index in SITES:
                hidden_states = hidden_states + audio
        return hidden_states


@dataclass
class Inputs:
    """Of one step; ``fresh``: new conditioning tensors with the same values at every step."""

    fresh: bool = False

    def __post_init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        self.x = torch.randn(1, TOKENS, WIDTH, generator=random)
        self.text = torch.randn(1, 4, WIDTH, generator=random)
        self.audio = torch.randn(1, 1, WIDTH, generator=random) * 1e-6

    def at(self, step: int) -> tuple[Tensor, ...]:
        text, audio = (self.text.clone(), self.audio.clone()) if self.fresh else (self.text, self.audio)
        return self.x * (1 + 1e-4 * step), torch.tensor([1000.0 - step]), text, audio


def per_block(model: nn.Module, inputs: Inputs, steps: range) -> float:
    """Microseconds a block over ``steps``."""
    with torch.no_grad():
        given = [inputs.at(i) for i in steps]
        start = time.perf_counter()
        for arguments in given:
            model(*arguments)
        return (time.perf_counter() - start) / len(steps) / BLOCKS * 1e6


def _watched(parts: bool) -> Model:
    model = Model(parts)
    for module in (model, *model.modules()):
        module.register_forward_pre_hook(lambda module, args: None)
    return model


def _plain(make: Callable[[bool], nn.Module], parts: bool, steps: int) -> tuple[float, float]:
    return per_block(make(parts), Inputs(), range(steps)), 0.0


def _cached(scope: Any, parts: bool, computed: bool, steps: int) -> Callable[[], tuple[float, float]]:
    """A function that gives microseconds a block, and host reads a step, of computed or of skipped steps."""
    anatomy = lambda m: synccache.Anatomy("toy", tuple(m.blocks), sites=SITES, streams={"Block": {"hidden_states": 0}})  # noqa: E731

    def run() -> tuple[float, float]:
        model, inputs = Model(parts), Inputs()
        wanted = frozenset(range(steps + 4)) if computed else frozenset(range(3))
        with synccache.cached(
            model, synccache.Method(Listed(wanted), scope, Reuse()), anatomy=anatomy(model)
        ) as handle:
            per_block(model, inputs, range(3))
            before = handle.host_reads
            took = per_block(model, inputs, range(3, 3 + steps))
            said = handle.trace.decisions()[3:]
            assert set(said) == {"computed" if computed else "skipped"}, said
            return took, (handle.host_reads - before) / steps

    return run


def measure(steps: int = 40, repeats: int = 9) -> dict[str, Any]:
    """Medians over ``repeats``, interleaved, in microseconds a block; units beyond a block with a plain hook."""
    rows: dict[str, Callable[[], tuple[float, float]]] = {}
    for parts, kind in ((False, "block"), (True, "block with three modules")):
        rows[f"{kind}, untouched"] = partial(_plain, Model, parts, steps)
        rows[f"{kind}, plain hook"] = partial(_plain, _watched, parts, steps)
    for name, scope in SCOPES.items():
        for what in ("computed", "skipped"):
            rows[f"{name}, {what}"] = _cached(scope, name == "modules", what == "computed", steps)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for _ in range(repeats):
        for name, run in rows.items():
            taken[name].append(run())
    unit = statistics.median(t for t, _ in taken["block, plain hook"])
    own = statistics.median(t for t, _ in taken["block with three modules, plain hook"])
    found = {}
    for name, runs in taken.items():
        times, scope = sorted(t for t, _ in runs), name.partition(",")[0]
        median = statistics.median(times)
        found[name] = {
            "us": median, "low": times[0], "high": times[-1], "reads": max(r for _, r in runs),
            "units_more": (median - (own if scope == "modules" else unit)) / unit,
            "bar": BARS.get(scope, {}).get(name.rpartition(" ")[2]),
        }  # fmt: skip
    hardware = {"cpu": platform.processor() or platform.machine(), "torch": torch.__version__, "unit_us": unit}
    return {"rows": found, **hardware}


def table(found: dict[str, Any]) -> str:
    lines = ["| what | µs a block | range | units more | bar | host reads a step |", "|---|---:|---:|---:|---:|---:|"]
    for name, row in found["rows"].items():
        bar = "–" if row["bar"] is None else f"{row['bar']:g}"
        more = f"{row['units_more']:.1f}" if row["bar"] is not None else "–"
        spread = f"{row['low']:.1f} to {row['high']:.1f}"
        lines.append(f"| {name} | {row['us']:.1f} | {spread} | {more} | {bar} | {row['reads']:.2f} |")
    return "\n".join([*lines, "", f"The unit is a block with a plain hook: {found['unit_us']:.1f} µs."])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m synccache.bench.hooks", description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=40, help="steps a run (default 40)")
    parser.add_argument("--repeats", type=int, default=9, help="runs of each, interleaved (default 9)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(given.steps, given.repeats)
    print(table(found))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
