"""ComfyUI's own Wan models: text- and image-to-video, camera, HuMo, VACE, Animate and Wan2.2-S2V.

Read from ComfyUI (``comfy/ldm/wan/model.py``, ``model_animate.py``, ``model_animate2.py``). Some class names are those
of the official repositories, the call is another one: ``forward(x, timestep, context, ..., transformer_options, ...)``
with latents x [B, C, T, H, W] and timesteps [B] or [B, T] (sigma times 1000). Blocks are called as
``block(x, e=..., freqs=..., context=..., ...)``, also from inside a ``patches_replace["dit"]`` patch. Reference and
motion tokens follow the video tokens, except in models with a ``ref_conv``, where they come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..core.anatomy import Anatomy, Grid, argument_names, original_class
from ..errors import UnsupportedModel
from .parts import is_named, patch_of


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of a native ComfyUI Wan model.

    Raises:
        UnsupportedModel: Wan-Animate-2, which goes past its blocks' call.
    """
    called_with = argument_names(original_class(model))
    if not is_named(model, "WanModel") or not {"timestep", "transformer_options"} <= set(called_with):
        return None
    if is_named(model, "WanAnimate2Model"):
        raise UnsupportedModel(
            f"{original_class(model).__name__} calls its blocks' forward_gen, not the blocks, so none can be left out. "
            "Use another Wan model, or ComfyUI's EasyCache for this one."
        )
    name, sites = _kind(model)
    return Anatomy(
        name=name,
        blocks=tuple(model.blocks),
        latent="x",
        sites=sites,
        streams={"WanAttentionBlock": {"x": 0}, "WanAttentionBlockAudio": {"x": 0}},
        grid=_grid(model),
        width=model.dim,
        live=("control", "transformer_options"),  # made anew at every step
    )


def _kind(model: nn.Module) -> tuple[str, tuple[int, ...] | None]:
    """The family's name, and after which blocks the model adds conditioning.

    None where it adds none itself: what ``double_block`` patches add there, at some steps or at all, is watched for.
    """
    if is_named(model, "WanModel_S2V"):
        return "wan-s2v", tuple(sorted(int(i) for i in model.audio_injector.injected_block_id))
    if is_named(model, "VaceWanModel"):
        return "wan-vace", tuple(sorted(model.vace_layers_mapping))
    if is_named(model, "AnimateWanModel"):
        return "wan-animate", tuple(range(0, len(model.blocks), 5))
    return ("wan-humo" if is_named(model, "HumoWanModel") else "wan"), None


def _grid(model: nn.Module) -> Grid:
    """Token grid of the latent, padded to whole patches; unknown where ``ref_conv`` puts other tokens before it."""
    patch, leading = patch_of(model), getattr(model, "ref_conv", None) is not None

    def grid(arguments: Mapping[str, Any]) -> tuple[int, int, int] | None:
        latent = arguments.get("x")
        if not isinstance(latent, Tensor) or (leading and arguments.get("reference_latent") is not None):
            return None
        t, h, w = (-(-size // p) for size, p in zip(latent.shape[-3:], patch, strict=True))
        return t, h, w

    return grid
