"""Cosmos in diffusers. Blocks 0, n, 2n, ... take a ControlNet's residual as an argument and add it as their last act.

That makes it injection after the block: it is kept out of what is stored, and a block that is left out adds this step's
residual. To have it stale, as part of the stored value, take ``decoupled=False``.
"""

from torch import nn

from ..core.anatomy import Anatomy
from .parts import attribute, is_named, patch_of, token_width, video_grid


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of ``CosmosTransformer3DModel``; all tokens are the video's."""
    if not is_named(model, "CosmosTransformer3DModel"):
        return None
    every = attribute(model, "controlnet_block_every_n")
    return Anatomy(
        name="cosmos",
        blocks=tuple(model.transformer_blocks),
        sites=tuple(range(0, len(model.transformer_blocks), every)) if every else (),
        streams={"CosmosTransformerBlock": {"hidden_states": 0}},
        added={"CosmosTransformerBlock": {"controlnet_residual": "hidden_states"}},
        grid=video_grid("hidden_states", patch_of(model)),
        width=token_width(model),
    )
