"""All hooks of an attached cache, and keeping them where they belong while others change the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ...errors import Conflict
from ..act.run import block_act, part_act, run_model
from ..anatomy import original_class
from ..engine import Engine, Expert
from ..place.told import telling
from .hook import ContextHook, Hook, hook_of
from .observe import observed

UNCOVERED = (
    "Some repeated blocks of {} can't be left out, so they always run: {}. Pass anatomy=Anatomy(...) if that is wrong; "
    "synccache inspect lists them."
)
UNKNOWN = (
    "The order of the blocks of {} is not understood, so every step is computed. Pass anatomy=Anatomy(...) with the "
    "blocks in the order in which they run."
)


class Attachment:
    """Hooks on the transformers of an engine, on their blocks, and on modules inside these."""

    def __init__(self, engine: Engine, owner: Any) -> None:
        self.engine, self.owner = engine, owner
        self.models: list[Hook | ContextHook] = []
        self.inner: dict[int, list[Hook]] = {}
        self.parts: dict[int, list[tuple[dict[str, Any], str, Callable[[nn.Module], Hook], Hook]]] = {}

    def attach(self) -> None:
        for expert in self.engine.experts:
            self.models.append(Hook(expert.model, self._model_act(expert)))
            self.models[-1].owner = self.owner
            if hasattr(type(expert.model), "cache_context"):
                self.models.append(ContextHook(expert.model, self._tell))
            self._hook(expert)

    def remove(self) -> None:
        for expert in self.engine.experts:
            self._unhook(expert)
        for hook in reversed(self.models):
            hook.remove()
        self.models.clear()

    def _model_act(self, expert: Expert) -> Callable[..., Any]:
        def act(run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
            if self.engine.call is None and not self.engine.paused:
                self.refresh(expert)
                if expert.structure.anatomy.observe is not None:
                    return self._observe(expert, run, args, kwargs)
            return run_model(self.engine, expert, run, args, kwargs)

        return act

    def _tell(self, name: str, fields: dict[str, Any]) -> Any:
        step, total, run = (fields.get(field) for field in ("step_index", "num_inference_steps", "run"))
        return telling(self.engine, branch=name, step=step, total=total, run=run)

    def _observe(self, expert: Expert, run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """The first call: it is computed, and shows which blocks there are."""
        self._unhook(expert)
        guess, known = expert.structure.anatomy, []

        def watched(*args: Any, **kwargs: Any) -> Any:
            output, found = observed(guess, lambda: run(*args, **kwargs))
            known.append(found)
            return output

        output = run_model(self.engine, expert, watched, args, kwargs)
        self.engine.know(expert, known[0])
        name = original_class(expert.model).__name__
        if not known[0].blocks:
            self.engine.notices.say("structure", UNKNOWN.format(name))
        elif known[0].uncovered:
            self.engine.notices.say("uncovered", UNCOVERED.format(name, ", ".join(known[0].uncovered)))
        self._hook(expert)
        return output

    # -- blocks and parts ----------------------------------------------------------------------------------------

    def _hook(self, expert: Expert) -> None:
        anatomy = expert.structure.anatomy
        if anatomy.observe is not None:
            return
        hooks = self.inner[expert.index] = []
        for index, block in enumerate(anatomy.blocks):
            hooks.append(Hook(block, block_act(self.engine, expert, index)))
        parts = self.parts[expert.index] = []
        for index, name in expert.parts:
            path, _, last = name.rpartition(".")
            holder = anatomy.blocks[index].get_submodule(path)._modules

            def make(module: nn.Module, index: int = index, name: str = name) -> Hook:
                return Hook(module, part_act(self.engine, expert, index, name), inside="a block")

            parts.append((holder, last, make, make(holder[last])))

    def _unhook(self, expert: Expert) -> None:
        for *_, hook in self.parts.pop(expert.index, []):
            hook.remove()
        for hook in reversed(self.inner.pop(expert.index, [])):
            hook.remove()

    def refresh(self, expert: Expert) -> None:
        """Follow what others did since the last call: blocks were compiled, modules replaced (by LoRA's wrappers).

        Raises:
            Conflict: a cache of diffusers was enabled.
        """
        cache = getattr(expert.model, "_cache_config", None)
        if cache is not None:
            raise Conflict(
                f"synccache is attached to this {original_class(expert.model).__name__}, and {type(cache).__name__} was "
                "enabled on it. Call model.disable_cache(), or synccache.remove(model) first."
            )
        for hook in self.inner.get(expert.index, ()):
            if "_compiled_call_impl" in hook.module.__dict__:
                hook.adopt()
        parts = self.parts.get(expert.index, [])
        for place, (holder, name, make, hook) in enumerate(parts):
            if holder.get(name) is not hook.module and isinstance(holder.get(name), nn.Module):
                hook.remove()
                parts[place] = (holder, name, make, make(holder[name]))
            elif "_compiled_call_impl" in hook.module.__dict__:
                hook.adopt()


def owner_of(model: Any) -> Any:
    """The handle of the cache that is attached to a transformer, or None."""
    return getattr(hook_of(model), "owner", None)


__all__ = ["Attachment", "owner_of"]
