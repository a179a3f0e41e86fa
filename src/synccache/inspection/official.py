"""Configs of Wan's own releases (github.com/Wan-Video), in the words of diffusers' classes.

The official code adds to the residual stream in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError

# By the name in config.json; WanModel may be one of several kinds.
CLASSES = {
    "WanModel": "WanTransformer3DModel",
    "VaceWanModel": "WanVACETransformer3DModel",
    "WanAnimateModel": "WanAnimateTransformer3DModel",
    "WanModel_S2V": "WanModel_S2V",
}
KINDS = ("t2v", "i2v", "flf2v", "ti2v", "s2v", "vace", "animate")
SAME = {"in_dim": "in_channels", "out_dim": "out_channels", "ffn_dim": "ffn_dim", "num_layers": "num_layers",
        "num_heads": "num_attention_heads", "freq_dim": "freq_dim", "text_dim": "text_dim",
        "vace_layers": "vace_layers", "vace_in_dim": "vace_in_channels"}  # fmt: skip
S2V = {"dim": "dim", "ffn_dim": "ffn_dim", "num_heads": "num_heads", "num_layers": "num_layers",
       "audio_inject_layers": "inject_layers", "audio_dim": "audio_dim", "text_dim": "text_dim"}  # fmt: skip


def translated(config: Mapping[str, Any], file: Path) -> tuple[str, dict[str, Any]]:
    """The class, and its arguments.

    Raises:
        InputError: a kind of model that isn't known, or sizes that are no numbers.
    """
    kind, cls = config.get("model_type"), CLASSES[config["_class_name"]]
    if kind not in (None, *KINDS):
        raise InputError(f"{file} has model_type={kind!r}, which isn't known here. Known are: {', '.join(KINDS)}.")
    if kind == "s2v":
        cls = CLASSES["WanModel_S2V"]
    names = S2V if cls == "WanModel_S2V" else SAME
    if cls == "WanTransformer3DModel":
        names = {name: new for name, new in names.items() if not name.startswith("vace")}
    given = {new: _tuple(config[name]) for name, new in names.items() if config.get(name) is not None}
    if cls == "WanModel_S2V":
        return cls, given
    dim, heads = config.get("dim", 5120), config.get("num_heads", 40)
    if not (isinstance(dim, int) and isinstance(heads, int) and heads > 0 and dim % heads == 0):
        raise InputError(f"{file} has dim={dim!r} and num_heads={heads!r}, which doesn't go up. Is it a release's own?")
    given["attention_head_dim"] = dim // heads
    # Wan2.1's image models look at the picture through CLIP as well; Wan2.2's have the same config, and don't.
    first = str(config.get("_diffusers_version", "")) < "0.33"
    if kind == "animate" or cls == CLASSES["WanAnimateModel"] or (kind in ("i2v", "flf2v") and first):
        given |= {"image_dim": 1280, "added_kv_proj_dim": dim}
    return cls, given


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
