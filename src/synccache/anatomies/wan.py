"""Wan in diffusers: text- and image-to-video, and VACE, whose hints are added between the blocks.

VACE's own blocks run before the others and always: of 40 blocks with 8 of VACE's, a skipped step still runs those 8, so
no method can be more than six times faster.
"""

from torch import nn

from ..core.anatomy import Anatomy
from .parts import WAN_ROWS, attribute, is_named, patch_of, token_width, video_grid


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of ``WanTransformer3DModel`` or ``WanVACETransformer3DModel``; all tokens are the video's."""
    if not is_named(model, "WanTransformer3DModel", "WanVACETransformer3DModel"):
        return None
    vace = is_named(model, "WanVACETransformer3DModel")
    return Anatomy(
        name="wan-vace" if vace else "wan",
        blocks=tuple(model.blocks),
        sites=tuple(sorted(attribute(model, "vace_layers"))) if vace else (),
        streams={"WanTransformerBlock": {"hidden_states": 0}},
        rows={} if vace else WAN_ROWS,
        grid=video_grid("hidden_states", patch_of(model)),
        width=token_width(model),
    )
