"""What computed calls teach about one transformer's blocks: streams, output structures, what happens in between."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...core.anatomy import Anatomy, argument_names, bind, by_class, original_class, version
from ...core.form import Leaf, put_together, take_apart

_STREAM_NAMES = ("hidden_states", "x", "img", "hidden", "sample", "tokens")


class Structure:
    """Recorded facts about one expert's blocks.

    Attributes:
        anatomy: as given, plus the injection sites, breaks and fixed blocks that were found.
        settled: True once a whole computed call was seen.
        joined: indices of the blocks whose output the next block receives untouched.
    """

    def __init__(self, anatomy: Anatomy) -> None:
        self.anatomy = anatomy
        self.settled = False
        # Declared sites are believed from the first call on, so that a first run is bit-equal to a second one.
        count, apart = len(anatomy.blocks), {*(anatomy.sites or ()), *anatomy.cuts}
        self.joined = set() if anatomy.sites is None else {i for i in range(count - 1) if i not in apart}
        self._classes = [original_class(b) for b in anatomy.blocks]
        self._streams: dict[type, dict[str, int]] = {}
        self._templates: dict[int, Any] = {}
        self._others: dict[int, dict[int, Any]] = {}
        self._sites: set[int] = set()
        self._breaks: set[int] = set()
        self._fixed: set[int] = set()
        self._ended: dict[int, set[str]] = {}
        self._evidence: dict[type, dict[str, int]] = {}
        self._retyped: dict[int, dict[str, torch.dtype]] = {}
        self._left: dict[int, tuple[int, list[Any], list[Any]]] = {}  # by thread
        self._places: dict[int, tuple[tuple[str, int, int], ...]] = {}
        for cls in set(self._classes):
            declared = by_class(anatomy.streams, cls)
            if declared is not None:
                self._streams[cls] = dict(declared)

    def streams(self, index: int) -> dict[str, int]:
        """``{argument: position in the output}`` of block ``index``, without streams that it gives None back for; a
        single-output block's first guess is its first stream-named argument, which the first computed call confirms or
        corrects."""
        cls = self._classes[index]
        if cls in self._streams:
            return {n: p for n, p in self._streams[cls].items() if n not in self._ended.get(index, ())}
        names = argument_names(cls)
        return {next((n for n in names if n in _STREAM_NAMES), names[0] if names else "hidden_states"): 0}

    def take(self, index: int, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
        """The streams that block ``index`` is called with, by argument."""
        found, count = {}, len(args)
        for name, place, _ in self._places.get(index) or self._placed(index):
            value = args[place] if place < count else kwargs.get(name)
            if isinstance(value, Tensor):
                found[name] = value
        return found

    def given(self, index: int, output: Any) -> dict[str, Tensor]:
        """The streams that block ``index`` gave back, by argument."""
        places = self._places.get(index) or self._placed(index)
        if isinstance(output, Tensor):
            return {name: output for name, _, position in places if position == 0}
        leaves: list[Any] = []
        take_apart(output, leaves)
        return {n: leaves[p] for n, _, p in places if p < len(leaves) and isinstance(leaves[p], Tensor)}

    def _placed(self, index: int) -> tuple[tuple[str, int, int], ...]:
        """(argument, its place in the call, position in the output) of each of block ``index``'s streams."""
        names = argument_names(self._classes[index])
        streams = self.streams(index).items()
        self._places[index] = tuple((n, names.index(n) if n in names else len(names), p) for n, p in streams)
        return self._places[index]

    def passed(self, index: int, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """What block ``index`` gives back if it does nothing: its streams, in the structure of its output."""
        places = self._places.get(index) or self._placed(index)
        if type(self._templates[index]) is Leaf and index not in self._retyped and len(places) == 1:
            name, place, _ = places[0]
            return args[place] if place < len(args) else kwargs[name]
        return self.skipped_output(index, self.typed(index, self.take(index, args, kwargs)))

    def adds(self, index: int) -> bool:
        """Whether block ``index`` adds something to a stream as its last act."""
        return bool(self.anatomy.added) and by_class(self.anatomy.added, self._classes[index]) is not None

    def added(self, index: int, args: tuple, kwargs: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
        """(stream, tensor) of all that block ``index``, so called, adds as its last act."""
        names = (by_class(self.anatomy.added, self._classes[index]) if self.anatomy.added else None) or {}
        if not names:
            return []
        bound = bind(self._classes[index], args, kwargs)
        return [(stream, bound[name]) for name, stream in names.items() if isinstance(bound.get(name), Tensor)]

    def enter(self, index: int, bound: Mapping[str, Any]) -> None:
        """Block ``index`` is about to be computed with ``bound`` arguments."""
        left = self._left.pop(threading.get_ident(), None)
        if self.settled or left is None or left[0] != index - 1:
            return
        before, leaves, versions = left
        if self._classes[before] is self._classes[index]:
            for position, leaf in enumerate(leaves):
                for name, value in bound.items():
                    if isinstance(leaf, Tensor) and value is leaf:
                        self._evidence.setdefault(self._classes[index], {})[name] = position
        pairs = [(leaves[p], versions[p], bound.get(n)) for n, p in self.streams(index).items() if p < len(leaves)]
        tensors = [(a, v, b) for a, v, b in pairs if isinstance(a, Tensor) and isinstance(b, Tensor)]
        if any(a.shape != b.shape for a, _, b in tensors) or len(tensors) < len(self.streams(index)):
            self._breaks.add(before)
        untouched = all(a is b and _unchanged(b, mark) for a, mark, b in tensors)
        if untouched:
            # Where no version will tell on later calls (inference mode), only declared sites allow to rely on it.
            if self.anatomy.sites is not None or all(version(b) is not None for _, _, b in tensors):
                self.joined.add(before)
        else:
            self.joined.discard(before)
            self._sites.add(before)

    def leave(self, index: int, bound: Mapping[str, Any], output: Any) -> bool:
        """Block ``index`` was computed; False if it turns out that it can't be left out."""
        if self.settled and index in self._templates:
            return index not in self._fixed
        leaves: list[Any] = []
        self._templates[index] = take_apart(output, leaves)
        self._left[threading.get_ident()] = (index, leaves, [_mark(x) for x in leaves])
        ended = {n for n, p in self.streams(index).items() if p < len(leaves) and leaves[p] is None}
        if ended:  # as in a last block that has no more use for the text
            self._ended.setdefault(index, set()).update(ended)
            self._places.pop(index, None)
            self._breaks.add(index - 1)
        streams = self.streams(index)
        rest = {p: x for p, x in enumerate(leaves) if p not in streams.values()}
        self._others[index] = {p: x for p, x in rest.items() if not isinstance(x, Tensor)}
        covered = set(streams.values()) | set(self._others[index])
        shaped = all(
            p < len(leaves) and isinstance(bound.get(n), Tensor) and isinstance(leaves[p], Tensor)
            and bound[n].shape == leaves[p].shape
            for n, p in streams.items()
        )  # fmt: skip
        retyped = {n: leaves[p].dtype for n, p in streams.items() if shaped and bound[n].dtype != leaves[p].dtype}
        self._retyped.pop(index, None)
        if retyped:
            self._retyped[index] = retyped
        fits = shaped and covered >= set(range(len(leaves)))
        (self._fixed.discard if fits else self._fixed.add)(index)
        return fits

    def call_is_over(self) -> None:
        """Let go of what the last block gave."""
        self._left.pop(threading.get_ident(), None)

    def settle(self) -> bool:
        """A whole call was computed: fix what was learnt. True if what was stored so far is void by it."""
        if self.settled or len(self._templates) < len(self._classes):
            return False
        self.settled, self._left, self._places = True, {}, {}
        relearn = False
        for cls, evidence in self._evidence.items():
            if by_class(self.anatomy.streams, cls) is None and evidence != self._streams.get(cls):
                relearn = relearn or evidence != self.streams(self._classes.index(cls))
                main = next((n for n in _STREAM_NAMES if n in evidence), None)
                self._streams[cls] = dict(sorted(evidence.items(), key=lambda item: (item[0] != main, item[1])))
        if relearn:  # other streams than were recorded: look at one more computed call
            self.settled = False
            self._templates, self._fixed, self._sites, self._breaks, self._ended = {}, set(), set(), set(), {}
            return True
        sites = self.anatomy.sites if self.anatomy.sites is not None else tuple(sorted(self._sites))
        breaks, fixed = self._breaks | set(self.anatomy.breaks), self._fixed | set(self.anatomy.fixed)
        self.anatomy = replace(self.anatomy, sites=sites, breaks=tuple(sorted(breaks)), fixed=tuple(sorted(fixed)))
        return False

    def can_skip(self, members: Iterable[int]) -> bool:
        """Whether all these blocks were seen computed, and none has to run always."""
        return all(i in self._templates and i not in self._fixed for i in members)

    def part(self, index: int) -> None:
        """Something happens between blocks ``index`` and ``index + 1`` after all."""
        self.joined.discard(index)

    def typed(self, index: int, streams: dict[str, Tensor]) -> dict[str, Tensor]:
        """``streams`` in the dtypes that block ``index`` gives back, where these aren't those that it was called with.

        Under autocast a first block may take half precision and give back float32.
        """
        dtypes = self._retyped.get(index)
        return {n: x.to(dtypes.get(n, x.dtype)) for n, x in streams.items()} if dtypes else streams

    def skipped_output(self, index: int, streams: Mapping[str, Tensor]) -> Any:
        """The output of a block that was left out, in the structure that it has when computed."""
        leaves = {p: streams[n] for n, _, p in self._places.get(index) or self._placed(index)} | self._others[index]
        return put_together(self._templates[index], leaves)


def _mark(value: Any) -> Any:
    """What tells later whether a tensor was written to: its version, or under inference mode (once) a copy."""
    if not isinstance(value, Tensor):
        return None
    return value.clone() if version(value) is None else version(value)


def _unchanged(tensor: Tensor, mark: Any) -> bool:
    return torch.equal(tensor, mark) if isinstance(mark, Tensor) else version(tensor) == mark
