"""``synccache plan``: profile the portrait model, so that ``cache_ratio`` merges the right segments."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from ..animation import prepare
from ..animation.job import model_name
from ..animation.profiling import plan_portrait
from ..animation.request import check_output, check_ranges
from ..errors import InputError
from ..portrait import GUIDANCE_SCALE
from ..portrait.pipeline import PortraitPipeline
from .console import say, say_json, shown
from .options import Guidance, Json, Mask, Model, Seed, Steps
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
    with ExitStack() as stack:
        assets = files("synccache.portrait") / "assets"
        photo = image or stack.enter_context(as_file(assets / "astronaut.jpg"))
        sound = audio or stack.enter_context(as_file(assets / "demo.ogg"))
        pipe = PortraitPipeline.load(model)
        scene = prepare(photo, sound, pipe.transformer.config.image_size, mask=mask)
        source = {
            "model": model_name(model), "image": photo.name, "audio": sound.name, "steps": steps, "seed": seed,
            "guidance_scale": guidance,
        }  # fmt: skip
        with CountBar("profiling", shown=not json_) as bar:
            made = plan_portrait(
                pipe, scene, steps=steps, guidance_scale=guidance, seed=seed, source=source, on_step=bar
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
