"""All hooks of an attached cache, and keeping them where they belong while others change the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from torch import nn

from ...core.anatomy import original_class
from ...errors import Conflict
from ..act.run import block_act, part_act, run_model
from ..engine import Engine, Expert
from ..place.told import telling
from .hook import ContextHook, Hook, InnerHook, refuse_compiled
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
        self.blocks: dict[int, list[tuple[Seat | None, InnerHook]]] = {}  # by expert
        self.parts: dict[int, list[tuple[Seat, Callable[[nn.Module], InnerHook], InnerHook]]] = {}

    def attach(self) -> None:
        for expert in self.engine.experts:
            self.models.append(Hook(expert.model, self._model_act(expert)))
            _OWNERS[expert.model] = ref(self.owner)
            if hasattr(type(expert.model), "cache_context"):
                self.models.append(ContextHook(expert.model, self._tell))
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
            if self.engine.call is None and not self.engine.paused:
                try:
                    self.refresh(expert)
                except Conflict:
                    self.engine.reset()
                    raise
                if expert.structure.anatomy.observe is not None:
                    return self._observe(expert, run, args, kwargs)
            return run_model(self.engine, expert, run, args, kwargs)

        return act

    def _tell(self, name: str, fields: dict[str, Any]) -> Any:
        step, total, run = (fields.get(field) for field in ("step_index", "num_inference_steps", "run"))
        return telling(self.engine, branch=name, step=step, total=total, run=run)

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
        if found.blocks == guess.blocks and not expert.confused:
            self.engine.confirm(expert, found)
        else:
            self._unhook(expert)
            self.engine.know(expert, found)
            self._hook(expert)
        if not found.blocks:
            self.engine.notices.say("structure", UNKNOWN.format(name))
        elif found.uncovered:
            self.engine.notices.say("uncovered", UNCOVERED.format(name, ", ".join(found.uncovered)))
        return output

    # -- blocks and parts ----------------------------------------------------------------------------------------

    def _hook(self, expert: Expert) -> None:
        anatomy = expert.structure.anatomy
        seats = seats_in(expert.model)
        hooks = self.blocks[expert.index] = []
        for index, block in enumerate(anatomy.blocks):
            hooks.append((seats.get(id(block)), InnerHook(block, block_act(self.engine, expert, index))))
        parts = self.parts[expert.index] = []
        for index, name in expert.parts:
            path, _, last = name.rpartition(".")
            seat = Seat(anatomy.blocks[index].get_submodule(path), last)

            def make(module: nn.Module, index: int = index, name: str = name) -> InnerHook:
                return InnerHook(module, part_act(self.engine, expert, index, name), inside="a block")

            parts.append((seat, make, make(seat.now())))
        self._refuse_compiled_parts(expert)

    def _unhook(self, expert: Expert) -> None:
        for *_, hook in self.parts.pop(expert.index, []):
            hook.remove()
        for *_, hook in reversed(self.blocks.pop(expert.index, [])):
            hook.remove()

    def refresh(self, expert: Expert) -> None:
        """Follow what others did since the last call: modules were compiled, or replaced (by LoRA's wrappers).

        Raises:
            Conflict: another cache was enabled, or blocks were compiled of which a part is to be left out.
        """
        self._refuse_others(expert.model)
        blocks, parts = self.blocks.get(expert.index, []), self.parts.get(expert.index, [])
        for place, (seat, hook) in enumerate(blocks if parts else ()):
            if seat is not None and seat.now() is not hook.module and seat.holds(hook.module):
                blocks[place] = (None, hook)  # wrapped: the modules inside are what matters
        if any(hook.is_lost(seat) for seat, hook in blocks):
            self._follow(expert)
            return
        for place, (seat, make, hook) in enumerate(parts):
            if hook.is_lost(seat):
                hook.remove()
                parts[place] = (seat, make, make(seat.now()))
        for each in (*(hook for _, hook in blocks), *(hook for _, _, hook in parts)):
            each.adopt()
        self._refuse_compiled_parts(expert)

    def _follow(self, expert: Expert) -> None:
        """Blocks were replaced: hook those that are there now, and forget what the others gave."""
        anatomy = expert.structure.anatomy
        found = [(hook.module, seat.now() if seat is not None else None) for seat, hook in self.blocks[expert.index]]
        now = tuple(before if there is None else there for before, there in found)
        self._unhook(expert)
        self.engine.know(expert, replace(anatomy, blocks=now))
        self._hook(expert)

    def _refuse_compiled_parts(self, expert: Expert) -> None:
        """A block's graph, once it is there, may not ask again for what stands in its modules: so this is looked at."""
        blocks = self.blocks.get(expert.index, [])
        compiled = {i for i, (_, hook) in enumerate(blocks) if hook.compiled is not None}
        for index, name in expert.parts if compiled else ():
            if index in compiled:
                part = expert.structure.anatomy.blocks[index].get_submodule(name)
                refuse_compiled(original_class(part).__name__, "a block")

    def _refuse_others(self, model: nn.Module) -> None:
        cache = getattr(model, "_cache_config", None)
        found = type(cache).__name__ if cache is not None else "another cache"
        if cache is not None or getattr(model, "_is_cached", False):
            raise Conflict(
                f"synccache is attached to this {original_class(model).__name__}, and {found} was enabled on it. Take "
                "that off (model.disable_cache(), cache_dit.disable_cache(pipe)), or synccache.remove(model) first."
            )


def owner_of(model: Any) -> Any:
    """The handle of the cache that is attached to a transformer, or None."""
    found = _OWNERS.get(model) if isinstance(model, nn.Module) else None
    return found() if found is not None else None


__all__ = ["Attachment", "owner_of"]
