"""FLUX.1 and FLUX.2 in diffusers: double blocks on image and text apart, then single blocks on both.

A ControlNet adds its residuals to the image tokens between the blocks, whatever these hold. What the blocks around add
sums up to the same with that in between, so one segment spans them all: the residuals stay live and cost no anchor.
Reference pictures (Kontext, FLUX.2) follow the image tokens; where FLUX.2 keeps their keys and values, the one call
that makes these has them first.

Single blocks of FLUX.2, and of FLUX.1 in older releases of diffusers, carry text and image in one sequence, text first.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..core.anatomy import Anatomy, argument_names, original_class
from .image_parts import IMAGE_AND_TEXT, PositionGrid
from .parts import is_named, token_width

_JOINT = ("FluxSingleTransformerBlock", "Flux2SingleTransformerBlock")


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of ``FluxTransformer2DModel`` or ``Flux2Transformer2DModel``."""
    if not is_named(model, "FluxTransformer2DModel", "Flux2Transformer2DModel"):
        return None
    second = is_named(model, "Flux2Transformer2DModel")
    double, single = tuple(model.transformer_blocks), tuple(model.single_transformer_blocks)
    apart = not second and all("encoder_hidden_states" in argument_names(original_class(b)) for b in single)
    return Anatomy(
        name="flux2" if second else "flux",
        blocks=double + single,
        sites=(),
        streams={
            "FluxTransformerBlock": IMAGE_AND_TEXT,
            "FluxSingleTransformerBlock": IMAGE_AND_TEXT if apart else {"hidden_states": 0},
            "Flux2TransformerBlock": IMAGE_AND_TEXT,
            "Flux2SingleTransformerBlock": {"hidden_states": 0},
        },
        grid=PositionGrid("img_ids", before=_references_before),
        width=token_width(model),
        ahead=_references_before if second else None,
        before={} if apart else {name: _prompt_tokens for name in _JOINT},
    )


def _references_before(arguments: Mapping[str, Any]) -> int:
    """Number of reference tokens before the image tokens: some where FLUX.2 is called to keep their keys and values."""
    return int(arguments.get("num_ref_tokens", 0)) if arguments.get("kv_cache_mode") == "extract" else 0


def _prompt_tokens(arguments: Mapping[str, Any]) -> int:
    """Number of text tokens, which come first where text and image are one sequence."""
    return int(arguments["encoder_hidden_states"].shape[1])
