"""All hooks of an attached cache, and keeping them where they belong while others change the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from ...conflicts import refuse_compiled, refuse_newcomer
from ...core.advice import UNCOVERED, UNKNOWN
from ...core.anatomy import Anatomy, original_class
from ...errors import Conflict
from ..act.attention import run_attention
from ..act.blocks import run_block
from ..act.outputs import run_part
from ..act.run import run_model
from ..engine import Engine, Expert
from .hook import ContextHook, Hook
from .observe import observed
from .seat import Seat, seats_in


class Attachment:
    """Hooks on a transformer of an engine, on its blocks, and on modules inside these."""

    def __init__(self, engine: Engine, expert: Expert) -> None:
        self.engine, self.expert = engine, expert
        self.models: list[Hook | ContextHook] = []
        self.blocks: list[Hook] = []
        self.parts: list[Hook] = []

    def attach(self) -> None:
        model = self.expert.model
        self.models.append(Hook(model, self._act))
        if hasattr(type(model), "cache_context"):
            self.models.append(ContextHook(model, self.engine))
        self._hook()

    def remove(self) -> None:
        self._unhook()
        for hook in reversed(self.models):
            hook.remove()
        self.models.clear()

    def _act(self, run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """The transformer is called."""
        if getattr(self.engine.now, "call", None) is not None or self.engine.paused:
            return run(*args, **kwargs)
        try:
            self.refresh()
        except Conflict:
            self.engine.reset()
            raise
        if self.expert.structure.anatomy.observe is not None:
            return self._observe(run, args, kwargs)
        return run_model(self.engine, self.expert, run, args, kwargs)

    def _observe(self, run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """The first call: it is computed, and shows which blocks there are; where these are the ones that were guessed,
        what it has stored is kept."""
        guess, known = self.expert.structure.anatomy, []

        def watched(*args: Any, **kwargs: Any) -> Any:
            output, found = observed(guess, lambda: run(*args, **kwargs))
            known.append(found)
            return output

        output = run_model(self.engine, self.expert, watched, args, kwargs)
        found, name = known[0], original_class(self.expert.model).__name__
        self._know(found, guessed=found.blocks == guess.blocks and not self.expert.confused)
        if not found.blocks:
            self.engine.notices.say("structure", UNKNOWN.format(name))
        elif found.uncovered:
            self.engine.notices.say("uncovered", UNCOVERED.format(name, ", ".join(found.uncovered)))
        return output

    def _hook(self) -> None:
        now, expert = self.engine.now, self.expert

        def hook(module: nn.Module, do: Callable[..., Any], where: Any, seat: Seat | None, inside: str = "") -> Hook:
            def act(run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
                call = getattr(now, "call", None)
                if call is None or call.expert is not expert:
                    return run(*args, **kwargs)
                return do(call, where, run, args, kwargs)

            return Hook(module, act, seat, inside)

        blocks, seats = expert.structure.anatomy.blocks, seats_in(expert.model)
        self.blocks = [hook(b, run_block, i, seats.get(id(b))) for i, b in enumerate(blocks)]
        for index, name in expert.parts:
            path, _, last = name.rpartition(".")
            seat = Seat(blocks[index].get_submodule(path), last)
            self.parts.append(hook(seat.now(), run_part, (index, name), seat, "a block"))
        for index in expert.rows:
            seat = Seat(blocks[index], expert.structure.anatomy.parts(index)[0])
            self.parts.append(hook(seat.now(), run_attention, index, seat, "a block"))
        self._refuse_compiled_parts()

    def _unhook(self) -> None:
        for hook in (*self.parts, *reversed(self.blocks)):
            hook.remove()
        self.parts, self.blocks = [], []

    def _know(self, anatomy: Anatomy, guessed: bool = False) -> None:
        """The model is made of these blocks: hook them, and unless they were ``guessed`` forget what others gave."""
        self._unhook()
        self.engine.know(self.expert, anatomy, guessed)
        self._hook()

    def refresh(self) -> None:
        """Follow what others did since the last call: modules were compiled, or replaced (by LoRA's wrappers).

        Raises:
            Conflict: another cache was enabled, or blocks were compiled of which a part is to be left out.
        """
        refuse_newcomer(self.expert.model)
        for hook in self.blocks if self.parts else ():
            if hook.there() is not hook.module and any(m is hook.module for m in hook.there().modules()):
                hook.seat = None  # wrapped: the modules inside are what matters
        if any(hook.is_lost() for hook in self.blocks):
            self._know(replace(self.expert.structure.anatomy, blocks=tuple(hook.there() for hook in self.blocks)))
            return
        for place, hook in enumerate(self.parts):
            if hook.is_lost():
                act = hook.act
                hook.remove()
                self.parts[place] = Hook(hook.there(), act, hook.seat, hook.inside)
        for hook in (*self.blocks, *self.parts):
            hook.adopt()
        self._refuse_compiled_parts()

    def _refuse_compiled_parts(self) -> None:
        """A block's graph, once it is there, may not ask again for what stands in its modules: so this is looked at."""
        for index in self.expert.rows:
            if self.blocks[index].compiled is not None:
                cls = original_class(self.blocks[index].module).__name__
                raise Conflict(
                    f"{self.engine.method.name!r} runs blocks on some of their tokens, which a compiled {cls} can't. "
                    "Choose a method that leaves out whole blocks, or don't compile them."
                )
        for index, name in self.expert.parts:
            if self.blocks[index].compiled is not None:
                part = self.expert.structure.anatomy.blocks[index].get_submodule(name)
                refuse_compiled(original_class(part).__name__, "a block")
