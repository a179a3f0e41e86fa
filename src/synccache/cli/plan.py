"""``synccache plan``: profile the portrait model, so that ``cache_ratio`` merges the right segments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..animation.profiling import plan_portrait
from ..animation.request import check_output, check_ranges
from ..errors import InputError
from ..portrait import GUIDANCE_SCALE
from .console import say, say_json, shown
from .options import Guidance, Json, Mask, Model, Seed, Steps
from .profile import portrait_clip
from .progress import CountBar

EXAMPLES = """
Examples:

  synccache plan --out plan.json

  synccache plan --out mine.json --image me.jpg --audio hello.wav

  synccache animate ... --cache-ratio 0.4 --set plan=plan.json
"""


def plan(
    out: Annotated[Path, typer.Option(metavar="JSON", help="The plan to write.")],
    steps: Steps = 40,
    image: Annotated[Path | None, typer.Option(metavar="PHOTO", help="By default the bundled portrait.")] = None,
    audio: Annotated[Path | None, typer.Option(metavar="SOUND", help="By default the bundled sentence.")] = None,
    seed: Seed = 0,
    guidance: Guidance = GUIDANCE_SCALE,
    mask: Mask = None,
    model: Model = None,
    json_: Json = False,
) -> None:
    """Run the portrait model uncached on one clip, and plan which cached segments to merge."""
    check_ranges(steps=steps, seed=seed, guidance_scale=guidance)
    if out.suffix.lower() != ".json":
        raise InputError(f"The plan {out} must end in .json, since it is written as JSON.")
    check_output(out, image, audio, mask, model)
    with portrait_clip(image, audio, mask, model) as clip, CountBar("profiling", shown=not json_) as bar:
        source = {**clip.source, "steps": steps, "seed": seed, "guidance_scale": guidance}
        made = plan_portrait(
            clip.pipe, clip.scene, steps=steps, guidance_scale=guidance, seed=seed, source=source, on_step=bar
        )
    made.save(out)
    merged = {count: list(made.boundaries(count)) for count in range(1, len(made.ends) + 1)}
    if json_:
        say_json({"plan": str(out), "steps": made.steps, "segments": len(made.ends), "boundaries": merged})
        return
    say(f"{made.steps} steps, {len(made.ends)} segments, ending after blocks {', '.join(map(str, made.ends))}")
    for count, inner in merged.items():
        say(f"  {count} kept: merged, but for ends after {', '.join(map(str, inner)) or 'the last block only'}")
    say(f"plan: {shown(out)}")
