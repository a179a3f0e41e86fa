"""A guidance branch: by what it is told from the others, and whether its conditioning has changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from .conditioning import PROMPT, Conditioning, Mark, Prints


@dataclass(eq=False)
class Branch:
    """A guidance branch of a run.

    Attributes:
        label: its name or number; ``again``: counts passes of a step that go by one name.
        marks: of the tensors of its latest call, by argument; ``plain``: its other arguments.
        prints, layout: numbers of the conditioning that it was first seen with; ``latest``: that were read last.
        inputs: numbers of what its blocks take in besides the stream, as last computed.
        empty: share of its latent that is 0: more where a pass has its reference channels zeroed.
        turns: how often it was called again; ``moves``: how often each argument was another one then.
    """

    label: Hashable
    batch: int
    again: int = 0
    marks: dict[str, list[Mark]] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)
    prints: Prints | None = None
    layout: dict[str, tuple[int, list[Any]]] = field(default_factory=dict)
    latest: tuple[Prints, dict[str, tuple[int, list[Any]]]] | None = None
    inputs: Prints | None = None
    empty: float | None = None
    turns: int = 0
    moves: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> Hashable:
        return (self.label, self.again) if self.again else self.label

    def same_objects(self, conditioning: Conditioning) -> set[str]:
        """Names of the arguments that are the very tensors of its latest call."""
        found = set()
        for name, tensors in conditioning.tensors.items():
            marks = self.marks.get(name, ())
            if len(marks) == len(tensors) and all(m.is_of(t) for m, t in zip(marks, tensors, strict=True)):
                found.add(name)
        return found

    def same_values(self, conditioning: Conditioning, prints: Prints | None, latest: bool = False) -> set[str]:
        """Names of the arguments whose numbers it was first seen with, or ``latest``."""
        own, layout = self.latest if latest and self.latest is not None else (self.prints, self.layout)
        if prints is None or prints.rows is None or own is None or own.rows is None:
            return set()
        before = {n: (forms, own.rows[row : row + len(forms)]) for n, (row, forms) in layout.items()}
        now = {n: (forms, prints.rows[row : row + len(forms)]) for n, (row, forms) in conditioning.layout.items()}
        return {name for name in now if now[name] == before.get(name)}

    def is_exactly(self, conditioning: Conditioning) -> bool:
        """Whether identity shows that it is this branch's conditioning."""
        if not self.marks or self.plain != conditioning.plain or self.marks.keys() != conditioning.tensors.keys():
            return False
        return len(self.same_objects(conditioning)) == len(conditioning.tensors)

    def likeness(self, conditioning: Conditioning, prints: Prints | None) -> tuple[bool, int]:
        """Whether all tensors that can be compared are equal to its own; how many arguments are, plain ones too."""
        same = self.same_objects(conditioning) | self.same_values(conditioning, prints)
        wanted = conditioning.layout.keys() | self.layout.keys()
        plain = sum(self.plain.get(name) == value for name, value in conditioning.plain.items())
        return bool(wanted) and wanted <= same, 2 * len(same) + plain

    def take(self, conditioning: Conditioning, prints: Prints | None, gone: Callable[[Mark], None]) -> frozenset[str]:
        """Remember this call's arguments; the names of those that have changed, without numbers, and without such
        as do every time unless they are a prompt."""
        same = self.same_objects(conditioning)
        equal = same | self.same_values(conditioning, prints, latest=True)
        changed = (conditioning.tensors.keys() | self.marks.keys()) - equal
        if prints is not None:
            self.latest = prints, conditioning.layout
        plain = {
            n for n in conditioning.plain.keys() | self.plain.keys() if conditioning.plain.get(n) != self.plain.get(n)
        }
        known = bool(self.marks) or bool(self.plain)
        for name, tensors in conditioning.tensors.items():
            if name in same:
                for mark in self.marks[name]:
                    mark.age += 1
            else:
                self.marks[name] = [Mark(t, gone) for t in tensors]
        for name in self.marks.keys() - conditioning.tensors.keys():
            del self.marks[name]
        self.plain = conditioning.plain
        if not known:
            return frozenset()
        self.turns += 1
        self.moves.update(changed | plain)
        moving = {n for n, moves in self.moves.items() if 1 < moves == self.turns and not PROMPT.search(n)}
        return frozenset((changed | plain) - moving - conditioning.numbers)
