"""Which blocks look at the person and which at the background, from one uncached run and a few sampled queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..core.anatomy import Anatomy, bind, original_class
from ..core.mask import checked_mask, token_weights
from ..core.method import Method
from ..errors import InputError, UnsupportedModel
from ..forecasters import Reuse
from ..gates import Never
from ..scopes import Nothing
from .attention_rows import column_sums, overlap, self_attention, spread
from .record import Run

Grid = tuple[int, int, int]


def background(run: Run, model: nn.Module, anatomy: Anatomy, mask: Any, share: float) -> dict[str, Tensor]:
    """Watch one run for the ``share`` of all blocks whose scores are lowest, which look at the background.

    Args:
        run: runs the model under a method, watched.
        model: the transformer; of two experts the first.
        mask: see ``Handle.mask``.

    Returns ``blocks`` (int64, ascending) and ``scores`` of all blocks (float32).

    Raises:
        InputError: there is no mask, or no person in it.
        UnsupportedModel: the model's attention can't be read.
    """
    mask = checked_mask(mask)
    if mask is None:
        raise InputError("Blocks are told apart by where a person is. Give mask=, a picture that is 1 on the person.")
    with watched(model, anatomy, mask) as scores:
        run(Method(Never(), Nothing(), Reuse(), "profile"), lambda handle: None)
    found = scores.mean()
    order = torch.argsort(found, stable=True)[: round(share * len(found))]
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
