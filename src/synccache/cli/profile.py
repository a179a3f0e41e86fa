"""``synccache profile``: let a method learn what it needs from one uncached clip of the portrait model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..animation.request import check_ranges
from ..defaults import GUIDANCE_SCALE
from ..errors import InputError
from ..files import check_output, existing_file, writing
from ..written import settings_from
from .bundled import given_or_bundled
from .console import say, say_json, shown
from .options import Guidance, Json, Mask, Method, Model, Photo, Seed, Sound, Steps, naming_the_command
from .progress import CountBar

if TYPE_CHECKING:
    from ..animation import Scene
    from ..portrait.pipeline import PortraitPipeline

EXAMPLES = """
Examples:

  synccache profile --method synccache --out profile.safetensors

  synccache profile --method magcache --out profile.safetensors

  synccache profile --method l2p --steps 30 --image me.jpg --audio hello.wav --out mine.safetensors

  synccache animate ... --method magcache --profile profile.safetensors
"""


@dataclass(frozen=True)
class Clip:
    """The portrait model, what it is run on, and both in words."""

    pipe: PortraitPipeline
    scene: Scene
    source: dict[str, Any]


def profile(
    method: Method,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The profile to write, .safetensors; replaced.")
    ],
    steps: Steps = 40,
    image: Photo = None,
    audio: Sound = None,
    seed: Seed = 0,
    guidance: Guidance = GUIDANCE_SCALE,
    mask: Mask = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the method to learn for; repeatable."),
    ] = None,
    model: Model = None,
    json_: Json = False,
) -> None:
    """Run the portrait model uncached on one clip, and keep what a method learns from it."""
    check_ranges(steps=steps, seed=seed, guidance_scale=guidance)
    if out.suffix.lower() != ".safetensors":
        raise InputError(f"The profile {out} must end in .safetensors, since it is written as such.")
    check_output(out, image, audio, mask, model)
    for path, what in ((image, "a photo"), (audio, "an audio file"), (mask, "a mask"), (model, "weights")):
        if path is not None:
            existing_file(path, what)
    from ..animation.profiling import loudest  # these take seconds to import
    from ..planner import learn_profile
    from ..planner.learning import check_learns
    from ..portrait.hearing import FRAME
    from ..profiles import Plan

    with naming_the_command():
        check_learns(method)
    settings = settings_from(set_ or [])
    with portrait_clip(image, audio, mask, model) as clip:
        source = {**clip.source, "seed": seed, "guidance_scale": guidance}
        speech = loudest(clip.scene.speech, clip.pipe.transformer.config.frames * FRAME)
        with CountBar("profiling", shown=not json_) as bar:
            run: dict[str, Any] = {"steps": steps, "guidance_scale": guidance, "seed": seed, "on_step": bar}
            made = learn_profile(
                clip.pipe, method, lambda: clip.pipe(clip.scene.portrait, speech, **run), source=source,
                mask=clip.scene.person, **settings,
            )  # fmt: skip
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        made.save(out)
    learnt = {name: list(tensor.shape) for name, tensor in made.tensors.items()}
    plan = Plan.of(made.tensors)
    merged = {} if plan is None else {n: list(plan.boundaries(n)) for n in range(1, len(plan.ends) + 1)}
    if json_:
        told = {"profile": str(out), "method": method, "steps": made.steps, "tensors": learnt, "source": source}
        say_json({**told, "boundaries": merged} if merged else told)
        return
    say(f"{method} learnt from {made.steps} steps: " + ", ".join(f"{n} {shape}" for n, shape in learnt.items()))
    for count, inner in merged.items():
        ends = ", ".join(map(str, inner)) or "the last block only"
        say(f"  segments kept: {count}, ending after blocks {ends}")
    say(f"profile: {shown(out)}")


@contextmanager
def portrait_clip(image: Path | None, audio: Path | None, mask: Path | None, model: Path | None) -> Iterator[Clip]:
    """The model on a photo and a recording, the bundled ones where none are given."""
    from ..animation import prepare
    from ..animation.state import model_name
    from ..portrait.pipeline import PortraitPipeline

    with given_or_bundled(image, audio) as (photo, sound):
        pipe = PortraitPipeline.load(model)
        scene = prepare(photo, sound, pipe.transformer.config.image_size, mask=mask)
        yield Clip(pipe, scene, {"model": model_name(model), "image": photo.name, "audio": sound.name})
