"""What computed calls teach about one transformer's blocks: streams, output structures, what happens in between."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .anatomy import Anatomy, argument_names, bind, by_class, original_class, version
from .form import Form, Leaf, take_apart

_STREAM_NAMES = ("hidden_states", "x", "img", "hidden", "sample", "tokens")


@dataclass
class Block:
    """What is known of one block.

    Attributes:
        cls: its class; ``added``: ``{argument: stream}`` of what it adds to a stream as its last act.
        places: (argument, its place in the call, position in the output) of each of its streams.
        form: of its output; None until it was seen computed.
        ended: streams that it gives None back for.
        retyped: dtypes of the streams that it gives back in another than it was called with: under autocast a first
            block may take half precision and give back float32.
        fixed: whether it was seen that it can't be left out.
    """

    cls: type
    added: Mapping[str, str]
    places: tuple[tuple[str, int, int], ...] = ()
    form: Form | None = None
    ended: set[str] = field(default_factory=set)
    retyped: dict[str, torch.dtype] = field(default_factory=dict)
    fixed: bool = False


class Structure:
    """Recorded facts about one expert's blocks.

    Attributes:
        anatomy: as given, plus the injection sites, breaks and fixed blocks that were found.
        settled: True once a whole computed call was seen.
        joined: indices of the blocks whose output the next block receives untouched.
    """

    def __init__(self, anatomy: Anatomy) -> None:
        self.anatomy = anatomy
        # Declared sites are believed from the first call on, so that a first run is bit-equal to a second one.
        count, apart = len(anatomy.blocks), {*(anatomy.sites or ()), *anatomy.cuts}
        self.joined = set() if anatomy.sites is None else {i for i in range(count - 1) if i not in apart}
        self._streams: dict[type, Mapping[str, int]] = {}
        self._evidence: dict[type, dict[str, int]] = {}
        self._left: dict[int, tuple[int, dict[int, Tensor], dict[int, Any]]] = {}  # by thread
        self._start()

    def _start(self) -> None:
        self.settled = False
        self._sites: set[int] = set()
        self._breaks: set[int] = set()
        classes = [original_class(block) for block in self.anatomy.blocks]
        self.blocks = [Block(cls, by_class(self.anatomy.added, cls) or {}) for cls in classes]
        for block in self.blocks:
            self._place(block)

    def _place(self, block: Block) -> None:
        """Find a block's streams. Where nothing is declared, a single-output block's first guess is its first
        stream-named argument, which the first computed call confirms or corrects."""
        names = argument_names(block.cls)
        streams = self._streams.get(block.cls) or by_class(self.anatomy.streams, block.cls)
        if streams is None:
            streams = {next((n for n in names if n in _STREAM_NAMES), names[0] if names else "hidden_states"): 0}
        places = {n: names.index(n) if n in names else len(names) for n in streams}
        block.places = tuple((n, places[n], p) for n, p in streams.items() if n not in block.ended)

    def streams(self, index: int) -> dict[str, int]:
        """``{argument: position in the output}`` of block ``index``, without streams that it gives None back for."""
        return {name: position for name, _, position in self.blocks[index].places}

    def take(self, index: int, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
        """The streams that block ``index`` is called with, by argument."""
        found, count = {}, len(args)
        for name, place, _ in self.blocks[index].places:
            value = args[place] if place < count else kwargs.get(name)
            if isinstance(value, Tensor):
                found[name] = value
        return found

    def typed(self, index: int, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
        """The same in the dtypes that block ``index`` gives back."""
        streams, dtypes = self.take(index, args, kwargs), self.blocks[index].retyped
        return {n: x.to(dtypes.get(n, x.dtype)) for n, x in streams.items()} if dtypes else streams

    def given(self, index: int, output: Any) -> dict[str, Tensor]:
        """The streams that block ``index`` gave back, by argument."""
        places = self.blocks[index].places
        if isinstance(output, Tensor):
            return {name: output for name, _, position in places if position == 0}
        leaves: list[Any] = []
        take_apart(output, leaves)
        return {n: leaves[p] for n, _, p in places if p < len(leaves) and isinstance(leaves[p], Tensor)}

    def passed(self, index: int, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """What block ``index`` gives back if it does nothing: its streams, in the structure of its output."""
        block = self.blocks[index]
        if len(block.places) == 1 and type(block.form.template) is Leaf and not block.retyped:  # type: ignore[union-attr]
            name, place, _ = block.places[0]
            return args[place] if place < len(args) else kwargs[name]
        return self.skipped_output(index, self.typed(index, args, kwargs))

    def skipped_output(self, index: int, streams: Mapping[str, Tensor]) -> Any:
        """The output of a block that was left out, in the structure that it has when computed."""
        block = self.blocks[index]
        assert block.form is not None
        return block.form.filled({position: streams[name] for name, _, position in block.places})

    def added(self, index: int, args: tuple, kwargs: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
        """(stream, tensor) of all that block ``index``, so called, adds as its last act."""
        block = self.blocks[index]
        bound = bind(block.cls, args, kwargs) if block.added else {}
        return [(stream, bound[name]) for name, stream in block.added.items() if isinstance(bound.get(name), Tensor)]

    def can_skip(self, members: Iterable[int]) -> bool:
        """Whether all these blocks were seen computed, and none has to run always."""
        return all([self.blocks[i].form is not None and not self.blocks[i].fixed for i in members])

    # -- learning ------------------------------------------------------------------------------------------------

    def enter(self, index: int, bound: Mapping[str, Any]) -> None:
        """Block ``index`` is about to be computed with ``bound`` arguments."""
        before, tensors, marks = self._left.pop(threading.get_ident(), (None, {}, {}))
        if before is None or before != index - 1:
            return
        cls, streams = self.blocks[index].cls, self.streams(index)
        if self.blocks[before].cls is cls:
            for position, tensor in tensors.items():
                for name, value in bound.items():
                    if value is tensor:
                        self._evidence.setdefault(cls, {})[name] = position
        found = {n: p for n, p in streams.items() if p in tensors and isinstance(bound.get(n), Tensor)}
        if len(found) < len(streams) or any(bound[n].shape != tensors[p].shape for n, p in found.items()):
            self._breaks.add(before)
        if not all(bound[n] is tensors[p] and _unfitting(tensors[p], marks[p]) for n, p in found.items()):
            self.joined.discard(before)
            self._sites.add(before)
        # Where no version will tell on later calls (inference mode), only declared sites allow to rely on it.
        elif self.anatomy.sites is not None or all(version(bound[n]) is not None for n in found):
            self.joined.add(before)

    def leave(self, index: int, bound: Mapping[str, Any], output: Any) -> bool:
        """Block ``index`` was computed; False if it turns out that it can't be left out."""
        block = self.blocks[index]
        block.form, tensors = Form.of(output)
        self._left[threading.get_ident()] = index, tensors, {p: _mark(x) for p, x in tensors.items()}
        ended = {n for n, p in self.streams(index).items() if block.form.others.get(p, output) is None}
        if ended:  # as in a last block that has no more use for the text
            block.ended |= ended
            self._place(block)
            self._breaks.add(index - 1)
        streams = self.streams(index)
        fitting = {n: tensors[p].dtype for n, p in streams.items() if p in tensors and isinstance(bound.get(n), Tensor)
                   and bound[n].shape == tensors[p].shape}  # fmt: skip
        block.fixed = len(fitting) < len(streams) or not tensors.keys() <= set(streams.values())
        block.retyped = {n: dtype for n, dtype in fitting.items() if bound[n].dtype != dtype}
        return not block.fixed

    def call_is_over(self) -> None:
        """Let go of what the last block gave."""
        self._left.pop(threading.get_ident(), None)

    def settle(self) -> bool:
        """A whole call was computed: fix what was learnt. True if what was stored so far is void by it."""
        if self.settled or any(block.form is None for block in self.blocks):
            return False
        self.settled, relearn = True, False
        for cls, evidence in self._evidence.items():
            if by_class(self.anatomy.streams, cls) is None and evidence != self._streams.get(cls):
                index = next(i for i, block in enumerate(self.blocks) if block.cls is cls)
                relearn = relearn or evidence != self.streams(index)
                main = next((n for n in _STREAM_NAMES if n in evidence), None)
                self._streams[cls] = dict(sorted(evidence.items(), key=lambda item: (item[0] != main, item[1])))
        if relearn:  # other streams than were recorded: look at one more computed call
            self._start()
            return True
        for block in self.blocks:
            self._place(block)
        sites = self.anatomy.sites if self.anatomy.sites is not None else tuple(sorted(self._sites))
        breaks = self._breaks | set(self.anatomy.breaks)
        fixed = {i for i, block in enumerate(self.blocks) if block.fixed} | set(self.anatomy.fixed)
        self.anatomy = replace(self.anatomy, sites=sites, breaks=tuple(sorted(breaks)), fixed=tuple(sorted(fixed)))
        return False


def _mark(tensor: Tensor) -> Any:
    """What tells later whether a tensor was written to: its version, or under inference mode (once) a copy."""
    return tensor.clone() if version(tensor) is None else version(tensor)


def _unfitting(tensor: Tensor, mark: Any) -> bool:
    return torch.equal(tensor, mark) if isinstance(mark, Tensor) else version(tensor) == mark
