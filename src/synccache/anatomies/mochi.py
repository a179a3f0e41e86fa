"""Mochi in diffusers: video and text go through each block apart; the last block gives the text back unchanged.

Its scheduler counts the other way round: the timestep goes up from noise to sample.
"""

from torch import nn

from ..core.anatomy import Anatomy
from .parts import is_named, patch_of, token_width, video_grid


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of ``MochiTransformer3DModel``."""
    if not is_named(model, "MochiTransformer3DModel"):
        return None
    return Anatomy(
        name="mochi",
        blocks=tuple(model.transformer_blocks),
        sites=(),
        streams={"MochiTransformerBlock": {"hidden_states": 0, "encoder_hidden_states": 1}},
        grid=video_grid("hidden_states", patch_of(model)),
        width=token_width(model),
    )
