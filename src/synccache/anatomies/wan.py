"""Wan in diffusers: text- and image-to-video, and VACE, whose hints are added between the blocks."""

from torch import nn

from ..engine.anatomy import Anatomy
from .parts import attribute, is_named, patch_of, video_grid


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of ``WanTransformer3DModel`` or ``WanVACETransformer3DModel``. VACE's own blocks always run."""
    if not is_named(model, "WanTransformer3DModel", "WanVACETransformer3DModel"):
        return None
    vace = is_named(model, "WanVACETransformer3DModel")
    heads, width = attribute(model, "num_attention_heads"), attribute(model, "attention_head_dim")
    return Anatomy(
        name="wan-vace" if vace else "wan",
        blocks=tuple(model.blocks),
        sites=tuple(attribute(model, "vace_layers")) if vace else (),
        streams={"WanTransformerBlock": {"hidden_states": 0}},
        grid=video_grid("hidden_states", patch_of(model)),
        width=heads * width if heads and width else None,
    )
