"""A model's anatomy in numbers, from one call on tensors without storage."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..anatomies import find
from ..core.anatomy import Anatomy, original_class
from ..core.types import Region
from ..errors import InputError, SynccacheError
from ..methods.values import check
from ..profiles import Plan, Profile, shipped_file
from ..profiles.identity import differences
from ..profiles.plan import SHIPPED
from ..scopes.segments import Segments
from .model import Model
from .models import find_model
from .size import Size
from .valueless import answered
from .watch import Shapes, watch

PROBE = 1  # blocks that SyncCache runs on every step


@dataclass(frozen=True)
class Blocks:
    """Consecutive blocks of one class that carry the same streams; ``streams`` by name: (tokens, channels)."""

    first: int
    last: int
    cls: str
    streams: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Segment:
    """Blocks that are filled in as one; ``streams`` by name: bytes of one stored residual for one guidance branch."""

    first: int
    last: int
    streams: dict[str, int]

    @property
    def bytes(self) -> int:
        return sum(self.streams.values())


@dataclass(frozen=True)
class Inspection:
    """What ``inspect`` found.

    Attributes:
        model, cls, anatomy: names of the model, its class and its family.
        parameters: number of weights of one transformer; ``experts``: transformers of the pipeline.
        size: what it was called at; ``dtype``: of the stored tensors.
        grid: the video tokens' (t, h, w), or None where the family doesn't tell.
        blocks: in the order in which they run.
        sites: indices of the blocks after which conditioning is injected.
        segments: between the sites, the first block (the probe) left out.
        kept: what is stored at ``cache_ratio``.
        probe_bytes: the probe's output, stored once for all branches.
        branches: guidance branches; each has residuals of its own.
    """

    model: str
    cls: str
    anatomy: str
    parameters: int
    experts: int
    size: Size
    dtype: str
    grid: tuple[int, int, int] | None
    blocks: tuple[Blocks, ...]
    sites: tuple[int, ...]
    segments: tuple[Segment, ...]
    cache_ratio: float
    kept: tuple[Segment, ...]
    probe_bytes: int
    branches: int

    @property
    def segment_bytes(self) -> int:
        """Of one branch with every segment stored."""
        return sum(s.bytes for s in self.segments)

    @property
    def kept_bytes(self) -> int:
        """Of one branch at ``cache_ratio``."""
        return sum(s.bytes for s in self.kept)

    @property
    def total_bytes(self) -> int:
        """Of all branches at ``cache_ratio``, and the probe; with one anchor (reuse). Experts take turns."""
        return self.branches * self.kept_bytes + self.probe_bytes

    def to_json(self) -> dict[str, Any]:
        """Plain values, totals included."""
        listed = {name: [{**asdict(s), "bytes": s.bytes} for s in getattr(self, name)] for name in ("segments", "kept")}
        totals = {n: getattr(self, n) for n in ("segment_bytes", "kept_bytes", "probe_bytes", "total_bytes")}
        return {**asdict(self), **listed, **totals}


def inspect(
    model: str | Model,
    *,
    width: int | None = None,
    height: int | None = None,
    frames: int | None = None,
    motion: bool = False,
    cache_ratio: float = 0.4,
    branches: int | None = None,
    dtype: str | None = None,
) -> Inspection:
    """Look at a transformer without its weights.

    Args:
        model: a name in ``MODELS``, an address on the hub, or the path of a folder or ``config.json``.
        width, height: of the picture in pixels; ``frames``: of the clip; by default what the model is made for.
        motion: a later clip, which carries tokens of the frames before it.
        cache_ratio: part of the residuals that is kept, over 0 and up to 1.
        branches: guidance branches of a step; by default what the model is run with.
        dtype: of the stored tensors; by default that of the residual stream in the code that the model is run with.

    Raises:
        InputError: an unknown name, or a size, ratio or type that can't be used.
        UnsupportedModel: the model's blocks could not be told.
    """
    known = find_model(model) if isinstance(model, str) else model
    dtype = dtype or known.call.dtype
    stored = getattr(torch, dtype, None)
    if not (isinstance(stored, torch.dtype) and stored.is_floating_point):
        raise InputError(f"dtype={dtype!r} is no floating-point type. Give bfloat16, float16, float32, ...")
    check("cache_ratio", cache_ratio)
    if branches is not None and not 1 <= branches <= 16:
        raise InputError(f"branches must lie between 1 and 16, but is {branches}. With guidance there are 2.")
    size = _size(known, width, height, frames, motion)
    network, anatomy, shapes = _seen(known, size)
    plan = _shipped_plan(anatomy)
    grid = _grid(known, network, anatomy, size)
    tokens, channels = next(iter(_sizes(shapes, 0).values()))
    probed = min(math.prod(grid), tokens) if grid is not None else tokens

    def segments(ratio: float) -> tuple[Segment, ...]:
        regions = Segments(ratio).regions(anatomy, PROBE, plan)
        return tuple(_segment(r, shapes, stored.itemsize) for r in regions)

    return Inspection(
        model=known.name, cls=known.cls, anatomy=anatomy.name,
        parameters=sum(p.numel() for p in network.parameters()), experts=known.experts,
        size=size, dtype=dtype, grid=grid, blocks=_blocks(anatomy, shapes), sites=tuple(anatomy.sites or ()),
        segments=segments(1.0), cache_ratio=cache_ratio, kept=segments(cache_ratio),
        probe_bytes=probed * channels * stored.itemsize,
        branches=branches if branches is not None else known.call.branches,
    )  # fmt: skip


def _shipped_plan(anatomy: Anatomy) -> Plan | None:
    """The plan that comes with the model, if any: without storage, nothing says that the weights are those."""
    path = shipped_file(SHIPPED, anatomy)
    profile = None if path is None else Profile.load(path)
    return None if profile is None or differences(profile.model, anatomy) else Plan.of(profile.tensors)


def _size(model: Model, width: int | None, height: int | None, frames: int | None, motion: bool) -> Size:
    usual = model.size or model.call.size
    given = {n: v for n, v in (("width", width), ("height", height), ("frames", frames)) if v is not None}
    size = replace(usual, **given, motion=motion)
    model.call.check(model.name, size)
    return size


def _seen(model: Model, size: Size) -> tuple[nn.Module, Anatomy, Shapes]:
    try:
        network = model.build(dtype=torch.float32)
        config = model.complete(network)

        def make(*sizes: int) -> Tensor:
            return torch.empty(sizes, device="meta")

        arguments = {**model.call.arguments(config, size, make), model.call.timestep: torch.empty(1, device="meta")}
        with answered():
            structure, shapes = watch(network, find(network), arguments)
    except SynccacheError:
        raise
    except Exception as error:  # whatever a config that doesn't fit its class leads to
        raise InputError(
            f"{model.name} can't be built and called as a {model.cls}: sizes in its config don't fit each other, or "
            "that class. Give the config.json that the model came with."
        ) from error
    return network, structure.anatomy, shapes


def _grid(model: Model, network: nn.Module, anatomy: Anatomy, size: Size) -> tuple[int, int, int] | None:
    """The video tokens' (t, h, w); some families read it from tokens' places, so from tensors that have values."""
    if anatomy.grid is None:
        return None
    return anatomy.grid(model.call.arguments(model.complete(network), size, lambda *sizes: torch.empty(sizes)))


def _sizes(shapes: Shapes, index: int) -> dict[str, tuple[int, int]]:
    """(tokens, channels) by stream at block ``index``."""
    return {name: (math.prod(shape[1:-1]), shape[-1]) for name, shape in shapes[index].items()}


def _blocks(anatomy: Anatomy, shapes: Shapes) -> tuple[Blocks, ...]:
    kinds = [(original_class(b).__name__, _sizes(shapes, i)) for i, b in enumerate(anatomy.blocks)]
    runs = [[i for i, _ in run] for _, run in itertools.groupby(enumerate(kinds), key=lambda item: item[1])]
    return tuple(Blocks(run[0], run[-1], *kinds[run[0]]) for run in runs)


def _segment(region: Region, shapes: Shapes, itemsize: int) -> Segment:
    sizes = _sizes(shapes, region.first)
    return Segment(region.first, region.last, {n: t * c * itemsize for n, (t, c) in sizes.items()})
