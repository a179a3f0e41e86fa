"""The video's tokens among those of a block's stream."""

from __future__ import annotations

from torch import Tensor

from .call import Call


def video_tokens(call: Call, stream: Tensor, index: int) -> tuple[Tensor, Tensor | None]:
    """The video tokens [B, V, D] of block ``index``'s main stream [B, S, D], and their mask weights [1 or B, V]."""
    anatomy = call.expert.structure.anatomy
    grid = anatomy.grid(call.bound) if anatomy.grid is not None else None
    if grid is not None and stream.ndim == 3:
        first = anatomy.first_token(index, call.bound)
        stream = stream[:, first : first + grid[0] * grid[1] * grid[2]]
    return stream, call.engine.mask.on(stream, grid, call.engine.notices)
