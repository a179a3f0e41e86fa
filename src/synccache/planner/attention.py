"""Which blocks look at the person and which at the background, from one uncached run and a few sampled queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .. import anatomies
from ..api import transformers_of
from ..engine.anatomy import Anatomy, bind, original_class
from ..engine.mask import checked_mask, token_weights
from ..engine.method import Method
from ..errors import InputError, UnsupportedModel
from ..forecasters import Reuse
from ..gates import Never
from ..scopes import Nothing
from .record import uncached

Grid = tuple[int, int, int]
_NAMES = ("attn1", "attn", "self_attn", "attention")
_INSIDE = ("to_q", "to_k", "heads")


def learn(target: Any, call: Callable[[], Any], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The blocks for the background: the ``share`` of all blocks whose scores are lowest.

    Args:
        target: as for ``apply``; a cache of ours that is attached is taken off. Of two experts the first is looked at.
        call: runs the pipeline once.
        settings: ``"mask"`` (see ``Handle.mask``), ``"share"``, and perhaps ``"anatomy"``, ``"steps"`` and ``"group"``.

    Returns ``blocks`` (int64, ascending) and ``scores`` of all blocks (float32).

    Raises:
        InputError: no mask, or ``call`` made less than two steps of the model.
        UnsupportedModel: the model's attention can't be read.
    """
    mask = checked_mask(settings.get("mask"))
    if mask is None:
        raise InputError("Blocks are told apart by where a person is. Give mask=, a picture that is 1 on the person.")
    model = transformers_of(target)[0]
    given = {name: settings[name] for name in ("anatomy", "steps", "group") if name in settings}
    with watched(model, settings.get("anatomy") or anatomies.find(model), mask) as scores:
        uncached(target, call, Method(Never(), Nothing(), Reuse(), "profile"), lambda handle: None, **given)
    found = scores.mean()
    order = torch.argsort(found, stable=True)[: round(settings["share"] * len(found))]
    return {"blocks": order.sort().values, "scores": found}


class Scores:
    """Attention that the video tokens received in each block, summed over the calls of the model."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.received: dict[tuple[int, Grid, int], Tensor] = {}
        self.person: dict[tuple[Grid, int], Tensor] = {}

    def add(self, block: int, received: Tensor, person: Tensor, grid: Grid) -> None:
        """Take in [B, V] attention to the video tokens, and their person weights [B or 1, V].

        Raises:
            InputError: no token is the person's.
        """
        if not bool((person >= 0.5).any()):
            raise InputError("The mask has no person in it that fills half of any token. Give one that has.")
        key = (block, grid, received.shape[0])
        self.received[key] = self.received.get(key, torch.zeros(())) + received.cpu()
        self.person[key[1:]] = person.cpu()

    def mean(self) -> Tensor:
        """[blocks] float32; a block that was never seen scores 1, so that it isn't left out."""
        found: dict[int, list[Tensor]] = {}
        for (block, grid, batch), received in self.received.items():
            found.setdefault(block, []).append(overlap(received, self.person[grid, batch], grid[0]))
        scores = torch.ones(self.blocks)
        for block, values in found.items():
            scores[block] = torch.stack(values).mean()
        return scores


@contextmanager
def watched(model: nn.Module, anatomy: Anatomy, mask: Tensor, queries: int | None = 64) -> Iterator[Scores]:
    """Inside, every call of ``model`` scores its blocks; both guidance branches count alike.

    A block's score is ``S = |favoured ∩ person| / |person|``, the mean over frames and samples: a token is favoured
    that receives more attention than the mean of its frame's tokens, summed over queries, heads and calls. Paper:
    ProfilingDiT, ICCV 2025; what makes a token favoured wasn't published. Attention is summed over calls before tokens
    are called favoured, since every call asks other queries: where tokens attend to themselves, one call's few queries
    would tell of their own columns only.

    Args:
        mask: as for ``Handle.mask``; a token is the person's from 1/2 on.
        queries: how many video tokens each call asks where they look, spread over all; None: every one. The cost is
            one more projection of the keys per block and ``heads * queries`` rows of attention, one head at a time.

    Raises:
        UnsupportedModel: a block holds no self-attention that can be read, or the token grid isn't known.
    """
    scores, hooks = Scores(len(anatomy.blocks)), []
    place: dict[str, Any] = {}

    def enter(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        bound = bind(original_class(module), args, kwargs)
        grid = anatomy.grid(bound) if anatomy.grid is not None else None
        if grid is None:
            raise UnsupportedModel(
                f"The token grid of {original_class(model).__name__} is not known, so a person can't be found among "
                "its tokens. Pass anatomy=Anatomy(..., grid=...)."
            )
        place.update(grid=grid, bound=bound, calls=place.get("calls", -1) + 1)

    def look(index: int) -> Callable[..., None]:
        def score(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            bound, grid = bind(original_class(module), args, kwargs), place["grid"]
            others = [n for n, v in bound.items() if v is not None and n not in ("hidden_states", "rotary_emb")]
            if others:
                raise UnsupportedModel(
                    f"{original_class(module).__name__} is called with {others[0]}, so it isn't self-attention as in "
                    "Wan's blocks. Find the background blocks in another way, and give them as blocks=[...]."
                )
            first, count = anatomy.first_token(index, place["bound"]), grid[0] * grid[1] * grid[2]
            hidden = bound["hidden_states"]
            weights = token_weights(mask, grid, count, hidden.shape[0])
            assert weights is not None
            picked = spread(count, queries or count, place["calls"]).to(hidden.device)
            received = column_sums(module, hidden, first + picked, bound.get("rotary_emb"))
            scores.add(index, received[:, first : first + count], weights, grid)

        return score

    try:
        hooks.append(model.register_forward_pre_hook(enter, with_kwargs=True))
        for index, block in enumerate(anatomy.blocks):
            hooks.append(self_attention(block).register_forward_pre_hook(look(index), with_kwargs=True))
        yield scores
    finally:
        for hook in hooks:
            hook.remove()


def spread(count: int, wanted: int, turn: int = 0) -> Tensor:
    """[min(wanted, count)] int64 indices below ``count``, others at each turn, spread by the golden ratio: so that they
    are in step with no row or frame."""
    if wanted >= count:
        return torch.arange(count)
    numbers = torch.arange(turn * wanted, (turn + 1) * wanted, dtype=torch.float64)
    return (numbers * ((5**0.5 - 1) / 2) % 1 * count).long()


def self_attention(block: nn.Module) -> nn.Module:
    """The block's self-attention module, in diffusers' manner.

    Raises:
        UnsupportedModel: there is none that can be read.
    """
    named = dict(block.named_children())
    for name in _NAMES:
        module = named.get(name)
        if module is not None and all(hasattr(module, inside) for inside in _INSIDE):
            return module
    raise UnsupportedModel(
        f"{original_class(block).__name__} holds no self-attention with to_q, to_k and heads, of which the attention "
        "could be read. Find its background blocks in another way, and give them as blocks=[...]."
    )


def attention(module: Any, hidden: Tensor, queries: Tensor, rotary: Any = None) -> Iterator[Tensor]:
    """Attention of some queries to all tokens, head by head: each [B, n, S] float32, rows summing to 1.

    Args:
        hidden: [B, S, D] what the module is called with.
        queries: [n] indices of tokens.
        rotary: (cosine, sine), each [1, S, 1, d] or [S, d], pairs of channels side by side; or None.
    """
    query, key = module.to_q(hidden[:, queries]), module.to_k(hidden)
    if getattr(module, "norm_q", None) is not None:
        query, key = module.norm_q(query), module.norm_k(key)
    query, key = (x.float().unflatten(-1, (module.heads, -1)) for x in (query, key))
    if rotary is not None:
        cosine, sine = (t.float().reshape(1, -1, 1, t.shape[-1]) for t in rotary)
        query = turned(query, cosine[:, queries], sine[:, queries])
        key = turned(key, cosine, sine)
    for head in range(module.heads):
        logits = query[:, :, head] @ key[:, :, head].transpose(1, 2)
        yield (logits / query.shape[-1] ** 0.5).softmax(-1)


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Pairs of channels of ``x`` [B, n, heads, d] turned by angles whose tables [1, n, 1, d] hold each one twice."""
    one, two = x.unflatten(-1, (-1, 2)).unbind(-1)
    c, s = cosine[..., 0::2], sine[..., 1::2]
    return torch.stack([one * c - two * s, one * s + two * c], dim=-1).flatten(-2)


def column_sums(module: Any, hidden: Tensor, queries: Tensor, rotary: Any = None) -> Tensor:
    """[B, S] attention that each token receives from ``queries``, the mean over these and the heads."""
    return torch.stack([a.mean(1) for a in attention(module, hidden, queries, rotary)]).mean(0)


def overlap(received: Tensor, person: Tensor, frames: int) -> Tensor:
    """The part of the person's tokens that receive more than the mean of their frame: a scalar, 0 to 1.

    Args:
        received: [B, V] attention to each video token.
        person: [B or 1, V] weight of each.
        frames: V is this many frames of equal size. Frames without a person don't count.
    """
    by_frame = received.unflatten(1, (frames, -1))
    is_person = (person >= 0.5).expand_as(received).unflatten(1, (frames, -1))
    favoured = by_frame > by_frame.mean(-1, keepdim=True)
    size = is_person.sum(-1)
    return ((favoured & is_person).sum(-1) / size.clamp_min(1))[size > 0].mean()
