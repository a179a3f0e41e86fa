"""A transformer's class and config, and how to build it from these, with or without storage."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..extras import require
from .arguments import qwen_image_edit
from .calls import Call, call_of
from .size import Size

if TYPE_CHECKING:
    import torch
    from torch import nn

OURS = {
    "WanModel_S2V": f"{__package__}.shapes",
    "HYVideoDiffusionTransformer": f"{__package__}.shapes",
    "PortraitTransformer": "synccache.portrait.transformer",
}


@dataclass(frozen=True)
class Model:
    """What is needed to build and call a transformer.

    Attributes:
        name: as people call it.
        cls: the class's name, a key of ``CALLS``.
        config: arguments of the class that differ from its defaults.
        size: what it is called at by default; None: the class's.
        experts: transformers of the pipeline.
        branches: guidance branches of a step; None: the class's.
        references: pictures of the same size that are looked at beside the one that is made.
        dtype: of the residual stream; None: the class's.
    """

    name: str
    cls: str
    config: Mapping[str, Any] = field(default_factory=dict)
    size: Size | None = None
    experts: int = 1
    branches: int | None = None
    references: int = 0
    dtype: str | None = None

    @property
    def call(self) -> Call:
        call = call_of(self.cls, self.config)
        if self.references:
            call = replace(call, arguments=qwen_image_edit)
        return replace(call, branches=self.branches or call.branches, dtype=self.dtype or call.dtype)

    def build(self, device: str | torch.device = "meta", dtype: torch.dtype | None = None) -> nn.Module:
        """The transformer with random weights, in evaluation mode; on "meta" without storage. bfloat16 by default."""
        import torch

        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype or torch.bfloat16)
        try:
            with torch.device(device):
                return self._built().eval().requires_grad_(False)
        finally:
            torch.set_default_dtype(before)

    def _built(self) -> nn.Module:
        if self.cls == "PortraitTransformer":
            from ..portrait.transformer import PortraitConfig, PortraitTransformer

            return PortraitTransformer(PortraitConfig(**self.config))
        cls = self._class()
        odd = misfit(cls, self.config)
        if odd is not None:
            raise InputError(f"{self.name} can't be built as a {self.cls}: {odd}. Give the config that it came with.")
        return cls(**self.config)

    def _class(self) -> type[nn.Module]:
        if self.cls in OURS:
            return getattr(import_module(OURS[self.cls]), self.cls)
        require(f"Looking at a {self.cls}", "diffusers")
        import diffusers

        if not hasattr(diffusers, self.cls):
            raise InputError(
                f"diffusers {diffusers.__version__} has no {self.cls}; update it: pip install --upgrade diffusers"
            )
        return getattr(diffusers, self.cls)

    def complete(self, model: nn.Module) -> dict[str, Any]:
        """The config with the class's defaults, of a model that ``build`` made."""
        found: Any = getattr(model, "config", {})
        return {**(vars(found) if is_dataclass(found) else dict(found)), **self.config}


def misfit(cls: type, config: Mapping[str, Any]) -> str | None:
    """The first thing in a config that a class doesn't take, or that is of another kind than its default."""
    known = inspect.signature(cls).parameters
    for name, value in config.items():
        if name not in known:
            return f"it has {name}, which the class doesn't take"
        usual = known[name].default
        if value is not None and not _alike(value, usual):
            return f"its {name} is {value!r}, where {usual!r} is usual"
    return None


def _alike(value: Any, usual: Any) -> bool:
    """Whether a value is of the default's kind: a list, a number, and above 0 if the default is."""
    if isinstance(usual, list | tuple):
        return isinstance(value, list | tuple)
    if isinstance(usual, bool) or not isinstance(usual, int | float):
        return True
    return isinstance(value, int | float) and (value > 0 or usual <= 0)
