"""How much audio modules and blocks of the portrait model change over a few steps: `python tools/module_changes.py`."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synccache.portrait.data import sample_clip, to_pixels
from synccache.portrait.pipeline import PortraitPipeline
from synccache.portrait.speech import Utterances

CLIPS, GAP, WARMUP = 3, 3, 6  # clips of the training side; steps between the two values; steps left out at the start


def main() -> None:
    """Print |v - v GAP steps before| / |v before| of each audio module and block, a mean over steps and clips."""
    pipe = PortraitPipeline.load()
    values: dict[str, list[Tensor]] = defaultdict(list)

    def keep(name: str, module: nn.Module, given: tuple[Any, ...], found: Tensor) -> None:
        values[name].append(found - given[0] if name.startswith("block") else found)

    for site, module in pipe.transformer.audio_modules.items():
        module.register_forward_hook(partial(keep, f"audio module after block {site}"))
    for index, block in enumerate(pipe.transformer.blocks):
        block.register_forward_hook(partial(keep, f"block {index}"))
    changes = defaultdict(list)
    for clip in range(CLIPS):
        values.clear()
        person = sample_clip(np.random.default_rng((79, clip)), Utterances("train", variants=1), 12)
        pipe.denoise(to_pixels(person.portrait)[None], person.features[None], seeds=[clip])
        for name, found in values.items():
            steps = torch.stack(found[::2])[WARMUP:].flatten(1)  # the conditional branch, called first on each step
            changes[name].append(((steps[GAP:] - steps[:-GAP]).norm(dim=1) / steps[:-GAP].norm(dim=1)).mean())
    for name, found in changes.items():
        print(f"{name:28s} {float(torch.stack(found).mean()):.2%}")


if __name__ == "__main__":
    main()
