"""What a model is made of: an ``Anatomy`` is all that the engine knows about a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor, nn

_PARTS = {
    f"{stream}{kind}"
    for stream in ("", "self_", "cross_", "img_", "txt_", "audio_")
    for kind in ("attn", "attn1", "attn2", "attn3", "attention", "ff", "ffn", "ff_context", "mlp", "feed_forward")
}
_WRAPPED = ("_orig_mod", "_fsdp_wrapped_module")
Grid = Callable[[Mapping[str, Any]], "tuple[int, int, int] | None"]


@dataclass(frozen=True, eq=False)
class Visit:
    """One call of a module that may be a block, seen while a model computed one call.

    Attributes:
        module: the one that was called.
        bound: its arguments by name, as its forward sees them (``bind``).
        output: what it returned.
        inside: number of the visit (its index in the list) during which it ran, or None.
    """

    module: nn.Module
    bound: Mapping[str, Any]
    output: Any
    inside: int | None


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What a transformer is made of.

    Args:
        name: the family's name, ``"wan-s2v"``.
        blocks: the transformer blocks, in the order in which they run.
        timestep: name of the forward's timestep argument.
        latent: name of the forward's latent argument (a tensor, or a list of tensors).
        sites: indices of the blocks after which the model adds conditioning; None: found on a computed step.
        streams: for a block class's name, ``{argument: position in the output}`` of each stream, the one with the video
            tokens first; empty: recorded on a computed step.
        added: for a block class's name, ``{argument: stream}`` of what such a block adds to that stream as its last act
            (a ControlNet's residual): injection after the block, kept out of what is stored and live on every step.
        rows: for the name of a block class that can compute some of its tokens: ``{argument: dimensions}`` of what
            may have a row for each token besides the stream. These are tensors (also in tuples) of that many
            dimensions, of which number 1 is as long as the stream. The first attention module in such a block is that
            of its tokens to each other, and nothing else in it mixes tokens.
        grid: gives the video tokens' (t, h, w) from the forward's bound arguments; None: unknown.
        offset: index of the first video token.
        width: number of channels of a token, for telling profiles apart.
        shipped: the folder with the profiles that the package has of this model, if any.
        breaks: indices of the blocks after which the token sequence changes: no segment spans these.
        fixed: indices of the blocks that are never left out.
        ahead: gives the number of tokens before the first video token from the forward's bound arguments, where it is
            another one for another call; it takes the place of ``offset``.
        before: for a block class's name, gives the number of tokens that come before all others in these blocks' stream
            only (text and image in one sequence), from the forward's bound arguments.
        mask: gives a person mask [B, T or 1, h, w], values in 0..1, from the forward's bound arguments; used where the
            user gave none.
        live: arguments that enter between the blocks only, as audio does: live on every step, so that another value on
            a skipped step is followed. Where some are named, others that change have their step computed; where none
            are, what the first block is called with tells.
        forced: ``{argument: value}`` that the forward gets while a cache is attached, whatever its caller says: to
            switch off a cache of the model's own.
        group: gives the process group whose ranks share a sample of this model at present, where the model itself does
            not tell; None: there is none.
        signal: gives what tells a gate how far the model has moved on (the modulated input of the first block, or its
            time embedding) from the first block's bound arguments; None: its time embedding, found by name.
        candidates: modules to watch on the first call of a model whose blocks are found by structure.
        observe: gives the anatomy from what they did on that call; None: it is known. ``glance`` makes of each visit
            what this needs, so that no tensor is held until the call is over.
        uncovered: names of repeated blocks that can't be left out, ``"context_refiner.0-1"``.

    Example:
        >>> anatomy = Anatomy("mine", tuple(model.layers), timestep="t", latent="x")
        >>> synccache.apply(model, "synccache", anatomy=anatomy)
    """

    name: str
    blocks: tuple[nn.Module, ...]
    timestep: str = "timestep"
    latent: str = "hidden_states"
    sites: tuple[int, ...] | None = None
    streams: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    added: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    grid: Grid | None = None
    offset: int = 0
    width: int | None = None
    shipped: Path | None = None
    breaks: tuple[int, ...] = ()
    fixed: tuple[int, ...] = ()
    ahead: Callable[[Mapping[str, Any]], int] | None = None
    before: Mapping[str, Callable[[Mapping[str, Any]], int]] = field(default_factory=dict)
    mask: Callable[[Mapping[str, Any]], Tensor | None] | None = None
    live: tuple[str, ...] = ()
    forced: Mapping[str, Any] = field(default_factory=dict)
    group: Callable[[], Any] | None = None
    signal: Callable[[Mapping[str, Any]], Tensor] | None = None
    candidates: tuple[nn.Module, ...] = ()
    observe: Callable[[Sequence[Visit]], Anatomy] | None = None
    glance: Callable[[Visit], Visit] | None = None
    uncovered: tuple[str, ...] = ()

    @property
    def cuts(self) -> tuple[int, ...]:
        """``breaks``, the ends of runs of like-classed blocks, and both sides of ``fixed`` blocks."""
        classes = [original_class(block) for block in self.blocks]
        changes = {i for i, (a, b) in enumerate(pairwise(classes)) if a is not b}
        return tuple(sorted(changes | set(self.breaks) | set(self.fixed) | {i - 1 for i in self.fixed if i > 0}))

    def first_token(self, index: int, arguments: Mapping[str, Any]) -> int:
        """Index of the first video token in the main stream of block ``index``."""
        offset = self.offset if self.ahead is None else self.ahead(arguments)
        before = by_class(self.before, original_class(self.blocks[index]))
        return offset + (before(arguments) if before is not None else 0)

    def parts(self, index: int) -> tuple[str, ...]:
        """Names of block ``index``'s attention and feed-forward modules, in the order in which it holds them."""
        return tuple(name for name, _ in self.blocks[index].named_children() if name.lower() in _PARTS)

    def joint(self, index: int) -> tuple[str, tuple[str, ...]] | None:
        """Of a block whose attention and feed-forward end in one projection, as FLUX's single blocks: that module, and
        those that feed it alone; None of other blocks."""
        names = [name for name, _ in self.blocks[index].named_children()]
        if not {"attn", "proj_mlp", "proj_out"} <= set(names):
            return None
        return "proj_out", tuple(n for n in names if n in ("attn", "proj_mlp", "act_mlp"))

    def identity(self) -> dict[str, Any]:
        """What a profile must agree with to be used on this model."""
        sites = None if self.sites is None else list(self.sites)
        return {"anatomy": self.name, "blocks": len(self.blocks), "sites": sites, "width": self.width}


def original_class(module: nn.Module) -> type:
    """The module's class, or that of the one that ``torch.compile`` or FSDP wrapped."""
    inner = next((module._modules[n] for n in _WRAPPED if n in module._modules), None)
    return original_class(inner) if inner is not None else type(module)


def by_class(table: Mapping[str, Any], cls: type) -> Any:
    """What ``table`` holds for a class or the nearest class above it, by name; None where there is nothing."""
    return next((table[c.__name__] for c in cls.__mro__ if c.__name__ in table), None)


@lru_cache(maxsize=256)
def argument_names(cls: Any) -> tuple[str, ...]:
    """Names of the forward's arguments in order, without ``self`` and ``*args``/``**kwargs``."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = list(inspect.signature(cls.forward).parameters.values())[1:]
    return tuple(p.name for p in parameters if p.kind not in kinds)


def bind(cls: type, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name, as the class's forward would see them; defaults are left out."""
    return {**dict(zip(argument_names(cls), args, strict=False)), **kwargs}


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested lists, tuples and dictionaries, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [t for item in value for t in tensors_in(item)]
    return []


def version(tensor: Tensor) -> int | None:
    """The tensor's in-place version; None where there is none (made under ``torch.inference_mode``)."""
    return None if tensor.is_inference() else tensor._version
