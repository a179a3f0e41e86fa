"""HunyuanVideo (double blocks, then single ones) and HunyuanVideo-1.5 (double blocks only) in diffusers.

Every block takes and gives video and text apart; a single block joins and splits them inside. In image-to-video by
token replacement the first frame's tokens are modulated apart, by blocks of other classes.
"""

from torch import nn

from ..core.anatomy import Anatomy
from .parts import is_named, patch_of, token_width, video_grid

_BOTH = {"hidden_states": 0, "encoder_hidden_states": 1}
_BLOCKS = (
    "HunyuanVideoTransformerBlock",
    "HunyuanVideoSingleTransformerBlock",
    "HunyuanVideoTokenReplaceTransformerBlock",
    "HunyuanVideoTokenReplaceSingleTransformerBlock",
    "HunyuanVideo15TransformerBlock",
)


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of ``HunyuanVideoTransformer3DModel`` or ``HunyuanVideo15Transformer3DModel``."""
    if not is_named(model, "HunyuanVideoTransformer3DModel", "HunyuanVideo15Transformer3DModel"):
        return None
    first = is_named(model, "HunyuanVideoTransformer3DModel")
    single = tuple(model.single_transformer_blocks) if first else ()
    return Anatomy(
        name="hunyuan-video" if first else "hunyuan-video-1.5",
        blocks=tuple(model.transformer_blocks) + single,
        sites=(),
        streams={name: _BOTH for name in _BLOCKS},
        grid=video_grid("hidden_states", patch_of(model)),
        width=token_width(model),
    )
