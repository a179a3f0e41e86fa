"""SkyReels-V2 in diffusers, with one timestep for all frames or (diffusion forcing) one for each.

A call counts by its highest timestep. With asynchronous forcing the last frames stay at the first timestep while the
earlier ones go down: until they follow, calls count as evaluations of the first step and are computed.
"""

from torch import nn

from ..core.anatomy import Anatomy
from .parts import is_named, patch_of, token_width, video_grid


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of ``SkyReelsV2Transformer3DModel``; all tokens are the video's."""
    if not is_named(model, "SkyReelsV2Transformer3DModel"):
        return None
    return Anatomy(
        name="skyreels-v2",
        blocks=tuple(model.blocks),
        sites=(),
        streams={"SkyReelsV2TransformerBlock": {"hidden_states": 0}},
        grid=video_grid("hidden_states", patch_of(model)),
        width=token_width(model),
    )
