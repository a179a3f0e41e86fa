"""A guidance branch: by what it is told from the others, and whether its conditioning has changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

from .conditioning import PROMPT, Conditioning, Mark, Prints


class Branch:
    """A guidance branch of a run.

    Args:
        label: its name or number; ``again``: counts passes of a step that go by one name.
        batch: number of samples.
        prints: numbers of the conditioning that it was first seen with.

    Attributes:
        latest: numbers of its conditioning that were read last.
        marks: of the tensors of its latest call, by argument; ``plain``: its other arguments.
        inputs: numbers of what its blocks take in besides the stream, as last computed.
        empty: share of its latent that is 0: more where a pass has its reference channels zeroed.
        turns: how often it was called again; ``moves``: how often each argument was another one then.
    """

    def __init__(self, label: Hashable, again: int, batch: int, prints: Prints) -> None:
        self.label, self.again, self.batch = label, again, batch
        self.prints = self.latest = prints
        self.marks: dict[str, list[Mark]] = {}
        self.plain: dict[str, Any] = {}
        self.inputs: Prints | None = None
        self.empty: float | None = None
        self.turns = 0
        self.moves: Counter[str] = Counter()

    @property
    def name(self) -> Hashable:
        return (self.label, self.again) if self.again else self.label

    def same_objects(self, conditioning: Conditioning) -> set[str]:
        """Names of the arguments that are the very tensors of its latest call."""
        counted = {n: t for n, t in conditioning.tensors.items() if len(self.marks.get(n, ())) == len(t)}
        return {n for n, tensors in counted.items() if all(map(Mark.is_of, self.marks[n], tensors))}

    def is_exactly(self, conditioning: Conditioning) -> bool:
        """Whether identity shows that it is this branch's conditioning."""
        alike = self.plain == conditioning.plain and self.marks.keys() == conditioning.tensors.keys()
        return bool(self.marks) and alike and self.same_objects(conditioning) == self.marks.keys()

    def likeness(self, conditioning: Conditioning, prints: Prints | None) -> int:
        """How much of it is its own, plain values too; 0 unless all tensors that can be compared are."""
        same = self.same_objects(conditioning) | self.prints.equal(prints)
        wanted = conditioning.compared.keys() | self.prints.forms.keys()
        plain = sum(self.plain.get(name) == value for name, value in conditioning.plain.items())
        return 2 * len(same) + plain if wanted and wanted <= same else 0

    def is_conditional(self, other: Branch) -> bool | None:
        """Whether it is the conditional pass of the two; None where neither names nor silence tell.

        The unconditional one is named so, or has zeros (no sound, no text) where the other has values.
        """
        for first, second, answer in ((self, other, True), (other, self, False)):
            if str(first.label) in ("cond", "positive") or str(second.label) in ("uncond", "negative"):
                return answer
        own, its = (
            {name for name, rows in (b.prints.values or {}).items() if not any(map(any, rows))} for b in (self, other)
        )
        return bool(its - own) if bool(own - its) != bool(its - own) else None

    def take(self, conditioning: Conditioning, prints: Prints | None, gone: Callable[[Mark], None]) -> frozenset[str]:
        """Remember this call's arguments; the names of those that have changed, without numbers, and without such
        as do every time unless they are a prompt."""
        same, before, now = self.same_objects(conditioning), self.plain, conditioning.plain
        changed = (conditioning.tensors.keys() | self.marks.keys()) - same - self.latest.equal(prints)
        changed |= {name for name in now.keys() | before.keys() if now.get(name) != before.get(name)}
        known = bool(self.marks) or bool(before)
        self.latest, self.plain = prints or self.latest, now
        for name in same:
            for mark in self.marks[name]:
                mark.age += 1
        tensors = conditioning.tensors.items()
        self.marks = {n: self.marks[n] if n in same else [Mark(t, gone) for t in found] for n, found in tensors}
        if not known:
            return frozenset()
        self.turns += 1
        self.moves.update(changed)
        moving = {n for n, moves in self.moves.items() if 1 < moves == self.turns and not PROMPT.search(n)}
        return frozenset(changed - moving - conditioning.numbers)
