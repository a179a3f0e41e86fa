"""All hooks of an attached cache, and keeping them where they belong while others change the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from torch import nn

from ...conflicts import refuse_compiled, refuse_newcomer
from ...core.anatomy import Anatomy, original_class
from ...errors import Conflict
from ..act.blocks import run_block
from ..act.outputs import run_part
from ..act.run import inner_act, run_model
from ..engine import Engine, Expert
from .hook import ContextHook, Hook
from .observe import observed
from .seat import Seat, seats_in

UNCOVERED = (
    "Some repeated blocks of {} can't be left out, so they always run: {}. Pass anatomy=Anatomy(...) if that is wrong; "
    "synccache inspect lists them."
)
UNKNOWN = (
    "The order of the blocks of {} is not understood, so every step is computed. Pass anatomy=Anatomy(...) with the "
    "blocks in the order in which they run."
)
_OWNERS: WeakKeyDictionary[nn.Module, ReferenceType[Any]] = WeakKeyDictionary()  # handles by transformer


class Attachment:
    """Hooks on the transformers of an engine, on their blocks, and on modules inside these."""

    def __init__(self, engine: Engine, owner: Any) -> None:
        self.engine, self.owner = engine, owner
        self.models: list[Hook | ContextHook] = []
        self.blocks: dict[int, list[Hook]] = {}  # by expert
        self.parts: dict[int, list[Hook]] = {}

    def attach(self) -> None:
        for expert in self.engine.experts:
            self.models.append(Hook(expert.model, self._model_act(expert)))
            _OWNERS[expert.model] = ref(self.owner)
            if hasattr(type(expert.model), "cache_context"):
                self.models.append(ContextHook(expert.model, self.engine))
            self._hook(expert)

    def remove(self) -> None:
        for expert in self.engine.experts:
            self._unhook(expert)
            if owner_of(expert.model) is self.owner:
                del _OWNERS[expert.model]
        for hook in reversed(self.models):
            hook.remove()
        self.models.clear()

    def _model_act(self, expert: Expert) -> Callable[..., Any]:
        def act(run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
            if self.engine.now.call is None and not self.engine.paused:
                try:
                    self.refresh(expert)
                except Conflict:
                    self.engine.reset()
                    raise
                if expert.structure.anatomy.observe is not None:
                    return self._observe(expert, run, args, kwargs)
            return run_model(self.engine, expert, run, args, kwargs)

        return act

    def _observe(self, expert: Expert, run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """The first call: it is computed, and shows which blocks there are; where these are the ones that were guessed,
        what it has stored is kept."""
        guess, known = expert.structure.anatomy, []

        def watched(*args: Any, **kwargs: Any) -> Any:
            output, found = observed(guess, lambda: run(*args, **kwargs))
            known.append(found)
            return output

        output = run_model(self.engine, expert, watched, args, kwargs)
        found, name = known[0], original_class(expert.model).__name__
        self._know(expert, found, guessed=found.blocks == guess.blocks and not expert.confused)
        if not found.blocks:
            self.engine.notices.say("structure", UNKNOWN.format(name))
        elif found.uncovered:
            self.engine.notices.say("uncovered", UNCOVERED.format(name, ", ".join(found.uncovered)))
        return output

    # -- blocks and parts ----------------------------------------------------------------------------------------

    def _hook(self, expert: Expert) -> None:
        def hook(module: nn.Module, do: Callable[..., Any], where: Any, seat: Seat | None, inside: str = "") -> Hook:
            return Hook(module, inner_act(self.engine, expert, do, where), seat, inside)

        blocks, seats = expert.structure.anatomy.blocks, seats_in(expert.model)
        self.blocks[expert.index] = [hook(b, run_block, i, seats.get(id(b))) for i, b in enumerate(blocks)]
        parts = self.parts[expert.index] = []
        for index, name in expert.parts:
            path, _, last = name.rpartition(".")
            seat = Seat(blocks[index].get_submodule(path), last)
            parts.append(hook(seat.now(), run_part, (index, name), seat, "a block"))
        self._refuse_compiled_parts(expert)

    def _unhook(self, expert: Expert) -> None:
        for hook in (*self.parts.pop(expert.index, ()), *reversed(self.blocks.pop(expert.index, ()))):
            hook.remove()

    def _know(self, expert: Expert, anatomy: Anatomy, guessed: bool = False) -> None:
        """The model is made of these blocks: hook them, and unless they were ``guessed`` forget what others gave."""
        self._unhook(expert)
        self.engine.know(expert, anatomy, guessed)
        self._hook(expert)

    def refresh(self, expert: Expert) -> None:
        """Follow what others did since the last call: modules were compiled, or replaced (by LoRA's wrappers).

        Raises:
            Conflict: another cache was enabled, or blocks were compiled of which a part is to be left out.
        """
        refuse_newcomer(expert.model)
        blocks, parts = self.blocks.get(expert.index, []), self.parts.get(expert.index, [])
        for hook in blocks if parts else ():
            there = hook.seat.now() if hook.seat is not None else None
            if there is not None and there is not hook.module and any(m is hook.module for m in there.modules()):
                hook.seat = None  # wrapped: the modules inside are what matters
        if any(hook.is_lost() for hook in blocks):
            there = [hook.seat.now() if hook.seat is not None else None for hook in blocks]
            now = tuple(hook.module if new is None else new for hook, new in zip(blocks, there, strict=True))
            self._know(expert, replace(expert.structure.anatomy, blocks=now))
            return
        for place, hook in enumerate(parts):
            if hook.seat is not None and hook.is_lost():
                hook.remove()
                parts[place] = Hook(hook.seat.now(), hook.act, hook.seat, hook.inside)
        for hook in (*blocks, *parts):
            hook.adopt()
        self._refuse_compiled_parts(expert)

    def _refuse_compiled_parts(self, expert: Expert) -> None:
        """A block's graph, once it is there, may not ask again for what stands in its modules: so this is looked at."""
        for index, name in expert.parts:
            if self.blocks[expert.index][index].compiled is not None:
                part = expert.structure.anatomy.blocks[index].get_submodule(name)
                refuse_compiled(original_class(part).__name__, "a block")


def owner_of(model: Any) -> Any:
    """The handle of the cache that is attached to a transformer, or None."""
    found = _OWNERS.get(model) if isinstance(model, nn.Module) else None
    return found() if found is not None else None
