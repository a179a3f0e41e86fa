"""Z-Image in diffusers: refiners of the noisy image, then blocks on image and caption in one sequence, image first.

The caption's refiners, two small blocks on text, are left as they are: conditioning stays live. A ControlNet adds its
residuals to the tokens between the blocks, whatever these hold: one segment spans them, and they stay live. The
timestep goes up from noise to sample. In the Omni variant, which is called with lists of pictures, captions come first
and the grid is not told.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..core.anatomy import Anatomy
from .parts import attribute, is_named


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of ``ZImageTransformer2DModel``."""
    if not is_named(model, "ZImageTransformer2DModel"):
        return None
    refiners = tuple(model.noise_refiner)
    return Anatomy(
        name="z-image",
        blocks=refiners + tuple(model.layers),
        timestep="t",
        latent="x",
        sites=(),
        streams={"ZImageTransformerBlock": {"x": 0}},
        grid=_grid,
        width=attribute(model, "dim"),
        breaks=(len(refiners) - 1,) if refiners else (),
    )


def _grid(arguments: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Token grid of latents [C, T, H, W], one for each sample; None where they differ or are lists themselves."""
    latents = arguments.get("x")
    shapes = {tuple(x.shape) if isinstance(x, Tensor) else () for x in latents or ()}
    if len(shapes) != 1 or () in shapes:
        return None
    across, frames = arguments.get("patch_size", 2), arguments.get("f_patch_size", 1)
    _, t, h, w = shapes.pop()
    return t // frames, h // across, w // across
