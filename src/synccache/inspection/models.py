"""Models by name or path: their class, and how to build it from a config, with or without storage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..extras import require
from .calls import CALLS, Call, Size

if TYPE_CHECKING:
    import torch
    from torch import nn

OURS = {
    "WanModel_S2V": f"{__package__}.shapes",
    "HYVideoDiffusionTransformer": f"{__package__}.shapes",
    "PortraitTransformer": "synccache.portrait.transformer",
}
MAX_BLOCKS, MAX_BYTES = 1000, 2**20


@dataclass(frozen=True)
class Model:
    """What is needed to build and call a transformer.

    Attributes:
        name: as people call it.
        cls: the class's name, a key of ``CALLS``.
        config: arguments of the class that differ from its defaults.
        size: what it is called at by default; None: the class's.
        experts: transformers of the pipeline.
    """

    name: str
    cls: str
    config: Mapping[str, Any] = field(default_factory=dict)
    size: Size | None = None
    experts: int = 1

    @property
    def call(self) -> Call:
        return CALLS[self.cls]

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
        if self.cls not in OURS:
            require(f"Looking at a {self.cls}", "diffusers")
        cls = getattr(import_module(OURS.get(self.cls, "diffusers")), self.cls)
        return cls(**self.config)

    def complete(self, model: nn.Module) -> dict[str, Any]:
        """The config with the class's defaults, of a model that ``build`` made."""
        found: Any = getattr(model, "config", {})
        return {**(vars(found) if is_dataclass(found) else dict(found)), **self.config}


MODELS: dict[str, Model] = {
    m.name: m
    for m in (
        Model("flux.1-dev", "FluxTransformer2DModel", {"guidance_embeds": True}),
        Model("hunyuanvideo", "HunyuanVideoTransformer3DModel"),
        Model("hunyuanvideo-avatar", "HYVideoDiffusionTransformer"),
        Model("ltx-video", "LTXVideoTransformer3DModel"),
        Model("portrait", "PortraitTransformer"),
        Model("qwen-image", "QwenImageTransformer2DModel"),
        Model(
            "wan2.1-t2v-1.3b",
            "WanTransformer3DModel",
            {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
            Size(832, 480, 81),
        ),
        Model("wan2.1-t2v-14b", "WanTransformer3DModel"),
        Model("wan2.2-s2v-14b", "WanModel_S2V"),
        Model("wan2.2-t2v-a14b", "WanTransformer3DModel", experts=2),
    )
}


def find_model(name_or_path: str) -> Model:
    """The model of that name, or of the diffusers folder or ``config.json`` at that path.

    Raises:
        InputError: there is neither, or the config is of no class whose call is known.
    """
    if name_or_path.lower() in MODELS:
        return MODELS[name_or_path.lower()]
    path = Path(name_or_path)
    if not path.exists():
        from ..methods.settings import unknown

        raise InputError(unknown("known model, nor a path", name_or_path, MODELS))
    candidates = [path / "config.json", path / "transformer" / "config.json"] if path.is_dir() else [path]
    file = next((p for p in candidates if p.is_file()), None)
    if file is None:
        raise InputError(f"{path} holds neither config.json nor transformer/config.json. Give a transformer's folder.")
    config = _read(file)
    cls = config.get("_class_name")
    if not isinstance(cls, str) or cls not in CALLS or cls in OURS:
        known = ", ".join(sorted(set(CALLS) - set(OURS)))
        raise InputError(f"{file} is of the class {cls!r}, whose call isn't known here. Known are: {known}.")
    for key, value in config.items():
        if "layers" in key and isinstance(value, int) and value > MAX_BLOCKS:
            raise InputError(f"{file} has {key}={value}, but at most {MAX_BLOCKS} are built. Is it a transformer's?")
    experts = 2 if path.is_dir() and (path / "transformer_2" / "config.json").is_file() else 1
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if not k.startswith("_")}
    return Model(file.parent.name if path.is_file() else path.name, cls, given, experts=experts)


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InputError(f"{file} is too large for a config ({file.stat().st_size} bytes). Give its config.json.")
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} is no JSON config ({error}). Give a transformer's config.json.") from None
    if not isinstance(config, dict):
        raise InputError(f"{file} holds a {type(config).__name__}, not a config. Give a transformer's config.json.")
    return config
