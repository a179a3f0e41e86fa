"""Any other model: blocks found by structure, arguments by name."""

from __future__ import annotations

from torch import nn

from ..engine.anatomy import Anatomy, argument_names, original_class
from ..errors import UnsupportedModel

TIMESTEPS = ("timestep", "timesteps", "t", "sigma", "sigmas", "time", "noise_level")
LATENTS = ("hidden_states", "x", "sample", "latents", "latent", "noisy_latents", "img")
_HELP = 'pass it by hand: anatomy=Anatomy("my-model", blocks=tuple(model.layers), timestep="t", latent="x").'


def recognise(model: nn.Module) -> Anatomy:
    """The longest list of like-classed blocks, with the other lists of blocks that have the same arguments.

    Raises:
        UnsupportedModel: no such list, or the forward names no timestep or latent.
    """
    name = original_class(model).__name__
    lists = [m for m in model.children() if isinstance(m, nn.ModuleList) and _alike(m)]
    if not lists:
        lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and _alike(m)]
    if not lists:
        raise UnsupportedModel(f"No list of transformer blocks was found in {name}; {_HELP}")
    longest = max(lists, key=len)
    wanted = argument_names(original_class(longest[0]))
    kept = [m for m in lists if argument_names(original_class(m[0])) == wanted]
    arguments = argument_names(original_class(model))
    timestep = next((n for n in TIMESTEPS if n in arguments), None)
    latent = next((n for n in LATENTS if n in arguments), None)
    for what, found in (("timestep", timestep), ("latent", latent)):
        if found is None:
            given = ", ".join(arguments)
            raise UnsupportedModel(f"{name}.forward({given}) has no argument that is known as the {what}; {_HELP}")
    assert timestep is not None and latent is not None
    return Anatomy(name=name, blocks=tuple(b for m in kept for b in m), timestep=timestep, latent=latent)


def _alike(blocks: nn.ModuleList) -> bool:
    classes = {original_class(b) for b in blocks}
    return len(blocks) >= 2 and len(classes) == 1 and bool(list(blocks[0].children()) or list(blocks[0].parameters()))
