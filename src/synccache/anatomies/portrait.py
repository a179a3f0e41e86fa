"""The built-in portrait model: Wan blocks, audio modules between them and after the last."""

from pathlib import Path

from torch import nn

from ..core.anatomy import Anatomy
from .parts import WAN_ROWS, attribute, is_named, patch_of, video_grid

_ASSETS = Path(__file__).parent.parent / "portrait" / "assets"


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of a ``PortraitTransformer``; video tokens come first, motion tokens follow."""
    if not is_named(model, "PortraitTransformer"):
        return None
    return Anatomy(
        name="portrait",
        blocks=tuple(model.blocks),
        sites=tuple(model.inject_after),
        streams={"WanTransformerBlock": {"hidden_states": 0}},
        rows=WAN_ROWS,
        grid=video_grid("hidden_states", patch_of(model)),
        width=attribute(model, "dim"),
        shipped=_ASSETS,
    )
