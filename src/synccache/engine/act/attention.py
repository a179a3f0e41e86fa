"""A block's self-attention: its keys and values are kept, and those of tokens that aren't computed taken from there.

``torch.nn.functional.scaled_dot_product_attention`` is overheard by a ``TorchFunctionMode`` on this thread and in the
block's first attention module only, since the mode makes every call of torch in it slower. Nothing global is replaced,
and whatever code calls it, a processor or a forward, works.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from ...core.anatomy import original_class
from ...core.groups import ROWS, put_
from ...core.types import Region
from ...errors import InputError, UnsupportedModel
from ...memory import free_bytes
from .call import Call, Run
from .rows import Rows
from .values import forecast, is_newest, keep, weigh

_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


@lru_cache(maxsize=1024)
def attended(index: int) -> Region:
    """What block ``index`` attends to, as a region."""
    return Region(f"block {index} keys and values", (index,), "output", rows=True)


class KeysAndValues(TorchFunctionMode):
    """Inside, torch's first attention is that of the ``tokens`` rows of block ``index`` to themselves.

    Args:
        rows: which ones these are; None: all of them.
    """

    def __init__(self, call: Call, index: int, tokens: int, rows: Rows | None = None) -> None:
        super().__init__()
        self.call, self.index, self.tokens, self.rows = call, index, tokens, rows
        self.seen = False

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        if func is not scaled_dot_product_attention or self.seen:
            return func(*args, **kwargs) if kwargs else func(*args)
        self.seen, kwargs = True, kwargs or {}
        bound = {**dict(zip(_NAMES, args, strict=False)), **kwargs}
        key, value = bound["key"], bound["value"]
        counts = {x.shape[ROWS] for x in (bound["query"], key, value)}
        if counts != {self.tokens} or bound.get("attn_mask") is not None or bound.get("is_causal"):
            raise UnsupportedModel(self._said("begins with attention that isn't of all its tokens to all of them"))
        if self.rows is None:
            _keep(self.call, self.index, key, value)
            return func(*args, **kwargs)
        held = self.call.session.anchors_of(self.call.place(attended(self.index)))
        bound["key"], bound["value"] = (self._completed(held[name], bound[name]) for name in ("key", "value"))
        return func(**bound)

    def around(self, run: Run, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """Call the block so.

        Raises:
            UnsupportedModel: its attention wasn't seen.
        """
        self.call.attention = self
        try:
            output = run(*args, **kwargs)
        finally:
            self.call.attention = None
        if not self.seen:
            raise UnsupportedModel(self._said("attends by a kernel of its own"))
        return output

    def _completed(self, history: Any, fresh: Tensor) -> Tensor:
        """All rows' keys or values, ``fresh`` where they were computed now; these are kept, too."""
        assert self.rows is not None
        self.rows.keep(history, float(self.call.step.index), fresh)
        newest, weights = history.values[0], weigh(self.call, self.call.engine.method.forecaster, history)
        if is_newest(weights) and newest.dtype is fresh.dtype and newest.device == fresh.device:
            return newest  # itself: attention doesn't write to it
        like = fresh.new_empty(())
        return put_(forecast(self.call, attended(self.index), history, like, False, onto=False), self.rows.index, fresh)

    def _said(self, what: str) -> str:
        cls = original_class(self.call.expert.structure.anatomy.blocks[self.index]).__name__
        name = self.call.engine.method.name
        return (
            f"{name!r} computes some of the tokens against the stored keys and values of the others, and block "
            f"{self.index} ({cls}) {what}. Let it attend by torch's scaled_dot_product_attention without a mask "
            "(diffusers: model.set_attention_backend('native')), or choose a method that leaves out whole blocks."
        )


def run_attention(call: Call, index: int, run: Run, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The first attention module of block ``index`` is called."""
    if not isinstance(call.attention, KeysAndValues):
        return run(*args, **kwargs)
    with call.attention:
        return run(*args, **kwargs)


def _keep(call: Call, index: int, key: Tensor, value: Tensor) -> None:
    """Keep a whole step's keys and values."""
    if call.session.clock.windowed:
        return
    place, region = call.place(attended(index)), attended(index)
    if not call.session.anchors_of(place) and index == call.expert.rows[0]:
        _refuse_if_too_large(call, key, value)
    call.session.make_room(place)
    for name, tensor in (("key", key), ("value", value)):
        keep(call, region, name, tensor.detach(), tensor.dtype, False, own=False)


def _refuse_if_too_large(call: Call, key: Tensor, value: Tensor) -> None:
    """Before anything is kept of a branch: what will be has to fit.

    Raises:
        InputError: it doesn't.
    """
    engine, expert = call.engine, call.expert
    size = torch.empty((), dtype=engine.storage_dtype or key.dtype).element_size()
    regions = sum(r.rows for r in expert.filled)  # each keeps about as much as one key
    numbers = len(expert.rows) * (key.numel() + value.numel()) + regions * key.numel()
    wanted, held = numbers * size * engine.method.forecaster.anchors, engine.bytes[0]
    device = torch.device(engine.storage_device or key.device)
    limit = getattr(engine.method.scope, "limit", None)
    room, whose = (free_bytes(device), f"are free on {device}") if limit is None else (limit - held, "limit= leaves")
    if room is not None and wanted > room:
        raise InputError(
            f"{engine.method.name!r} keeps the keys and values of {len(expert.rows)} blocks for each guidance branch, "
            f"{wanted:,} bytes ({wanted / 2**30:.2f} GiB), and {max(0, room):,} {whose}. Ask for fewer pixels or "
            "frames, store them smaller or elsewhere (storage_dtype=, storage_device='cpu'), or choose another method."
        )
