"""Stable Diffusion 3 and 3.5 in diffusers: double blocks on image and text; the last one gives back the image only.

A ControlNet adds its residuals to the image tokens between the blocks, whatever these
hold: one segment spans them, and they stay live. Skip-layer guidance is a branch of its own that leaves blocks out.
"""

from torch import nn

from ..core.anatomy import Anatomy
from .image_parts import IMAGE_AND_TEXT, picture_grid
from .parts import is_named, patch_of, token_width


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of ``SD3Transformer2DModel``."""
    if not is_named(model, "SD3Transformer2DModel"):
        return None
    blocks = tuple(model.transformer_blocks)
    return Anatomy(
        name="sd3",
        blocks=blocks,
        sites=(),
        streams={"JointTransformerBlock": IMAGE_AND_TEXT},
        grid=picture_grid("hidden_states", patch_of(model)),
        width=token_width(model),
        breaks=tuple(i - 1 for i, block in enumerate(blocks) if block.context_pre_only and i > 0),
    )
