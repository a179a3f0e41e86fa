"""The built-in stage model: Wan blocks, audio injectors between them and after the last."""

from pathlib import Path

from torch import nn

from ..core.anatomy import Anatomy
from .parts import attribute, is_named, patch_of, video_grid

_ASSETS = Path(__file__).parent.parent / "stage" / "assets"


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of a ``StageTransformer``; video tokens come first, then those of what is given."""
    if not is_named(model, "StageTransformer"):
        return None
    return Anatomy(
        name="stage",
        blocks=tuple(model.blocks),
        sites=tuple(model.inject_after),
        streams={"WanTransformerBlock": {"hidden_states": 0}},
        grid=video_grid("hidden_states", patch_of(model)),
        width=attribute(model, "dim"),
        shipped=_ASSETS,
    )
