"""Weights of the stage model in files: two folders of fp16 safetensors, as diffusers lays them out."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from .text import StageTextEncoder
from .transformer import StageTransformer


def save(
    folder: Path, transformer: StageTransformer, encoder: StageTextEncoder, known: dict[str, Any] | None = None
) -> None:
    """Write ``transformer/``, ``text_encoder/`` and what is ``known`` of them, ``about.json``, into ``folder``."""
    for name, model in (("transformer", transformer), ("text_encoder", encoder)):
        half = copy.deepcopy(model)
        for parameter in half.parameters():
            parameter.data = parameter.data.to("cpu", torch.float16)
        half.save_pretrained(folder / name)
    if known is not None:
        (folder / "about.json").write_text(json.dumps(known))


def about(folder: Path) -> dict[str, Any]:
    """What ``save`` was told of the weights in ``folder``: how many steps, clips and hours they were trained."""
    path = folder / "about.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def load(folder: Path) -> tuple[StageTransformer, StageTextEncoder]:
    """Read what ``save`` wrote, as float32 and in evaluation mode.

    Raises:
        InputError: a folder is missing or holds no stage model.
    """
    models = []
    for name, kind in (("transformer", StageTransformer), ("text_encoder", StageTextEncoder)):
        if not (folder / name / "config.json").is_file():
            raise InputError(f"No stage model in {folder}: it has no {name}/config.json. Give a folder of stage-train.")
        try:
            models.append(kind.from_pretrained(folder / name, torch_dtype=torch.float32).eval())
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{folder / name} is a damaged stage model ({reason}). Train it anew.") from None
    return models[0], models[1]
