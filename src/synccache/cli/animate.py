"""``synccache animate``: a photo and a recording become a talking video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..animation.request import Request
from ..defaults import GUIDANCE_SCALE, METHOD, default_for
from ..errors import InputError, SynccacheError
from ..written import read, settings_from
from .bundled import given_or_bundled
from .console import Stopped, lasting, note, say, say_json, shown
from .options import (
    Device,
    Guidance,
    Json,
    Mask,
    Method,
    Model,
    Photo,
    Resume,
    Seed,
    Sound,
    Steps,
    naming_the_command,
)
from .progress import TakeBar

if TYPE_CHECKING:
    from ..animation import Result

EXAMPLES = """
Examples:

  synccache animate --image me.jpg --audio hello.wav --out hello.mp4

  synccache animate -i me.jpg -a hello.wav -o hello.mp4 --compare

  synccache animate -i me.jpg -a talk.mp3 -o talk.mp4 --device cuda --resume

  synccache animate --image me.jpg --audio hello.wav --speed 3

  synccache animate --method hicache

  synccache animate ... --method synccache-linear --computed-steps 12

  synccache animate ... --threshold 0.2 --set max_gap=4 --report hello.json

  synccache animate ... --mask me-mask.png --set storage_dtype=float16
"""


def animate(
    image: Photo = None,
    audio: Sound = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="MP4", help="The video to write: H.264 with the sound, 12.5 frames/s."),
    ] = Path("talk.mp4"),
    steps: Steps = 40,
    speed: Annotated[
        str | None,
        typer.Option(metavar="X", help="How many times faster than uncached: 3, or quality (2), balanced, fast (4)."),
    ] = None,
    method: Method = "",
    compare: Annotated[
        bool, typer.Option("--compare", "-c", help="Also run uncached; write both side by side, a report and a plot.")
    ] = False,
    seed: Seed = 0,
    mask: Mask = None,
    report: Annotated[
        Path | None, typer.Option(metavar="JSON", help="Report to write: seconds, steps, bytes, lip-sync. Plot beside.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", "-t", metavar="X", help="Accumulated relative change at which a step is computed."),
    ] = None,
    computed_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Steps to compute a clip, instead of a threshold; without a profile, evenly spread."
        ),
    ] = None,
    cache_ratio: Annotated[
        float | None, typer.Option(metavar="X", help="Part of the residuals that is kept, over 0 and up to 1.")
    ] = None,
    profile: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="What a method learnt, from 'synccache profile'; once for each of 'a+b'."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Another setting of the method; repeatable."),
    ] = None,
    guidance: Guidance = GUIDANCE_SCALE,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Side of the video, 32 to 2048.")] = 384,
    model: Model = None,
    no_crop: Annotated[
        bool, typer.Option("--no-crop", help="Animate the photo's centre square as it is; needs no detected face.")
    ] = False,
    device: Device = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")] = False,
    resume: Resume = False,
    json_: Json = False,
) -> None:
    """Animate a portrait photo from speech, several times faster than without a cache."""
    method = method or (METHOD if speed is None else default_for("portrait").method)
    flags = {"threshold": threshold, "computed_steps": computed_steps, "cache_ratio": cache_ratio}
    wanted = None if speed is None else read(speed)
    profiles = [str(path) for path in profile or ()]
    settings = settings_from(
        set_ or [], **flags, speed=wanted, profile=profiles[0] if len(profiles) == 1 else profiles or None
    )
    with given_or_bundled(image, audio) as (photo, sound):
        request = Request(
            image=photo, audio=sound, out=out, steps=steps, method=method, settings=settings, compare=compare,
            seed=seed, guidance_scale=guidance, size=size, mask=mask, report=report, model=model, crop=not no_crop,
            device=device, overwrite=overwrite, resume=resume,
        )  # fmt: skip
        run(request, json_)


def run(request: Request, as_json: bool) -> None:
    """Make an animation and say what came of it."""
    request.check_files()
    from ..animation import animate as make  # takes seconds to import

    kept = ""

    def keeping(folder: Path, clips: int) -> None:
        nonlocal kept
        of = f"{clips} finished clip{'s' * (clips > 1)}"
        kept = f"{of} kept in {shown(folder)}: the same command with --resume goes on from there"

    with TakeBar(shown=not as_json) as bar, naming_the_command():
        try:
            result = make(request, on_estimate=None if as_json else _announce, on_progress=bar, on_kept=keeping)
        except KeyboardInterrupt:
            raise Stopped(kept or "nothing was written") from None
        except SynccacheError as error:
            if not kept:
                raise
            raise InputError(f"{error} ({kept}.)") from None
        except BaseException:  # ended by the system, or a bug
            if kept:
                note(f"stopped; {kept}")
            raise
    if as_json:
        say_json({"files": _files(result), **{k: v for k, v in result.report.items() if k != "trace"}})
    else:
        _describe(result)


def _announce(seconds: float) -> None:
    if seconds > 60:
        note(f"This takes up to about {lasting(seconds)}.")


def _files(result: Result) -> dict[str, str | None]:
    out = result.outputs
    named = {"video": out.video, "side_by_side": out.side_by_side, "report": out.report, "plot": out.plot}
    return {name: None if path is None else str(path) for name, path in named.items()}


def _describe(result: Result) -> None:
    r: dict[str, Any] = result.report
    fast, slow = r["accelerated"], r["baseline"]
    total = round(r["step_reduction"] * fast["computed_steps"]) if r["step_reduction"] else fast["computed_steps"]
    say(f"{r['method']}: {fast['computed_steps']} of {total} steps computed in {fast['seconds']:.1f} s")
    if slow is not None:
        say(f"uncached: {slow['seconds']:.1f} s, so {r['speedup']:.2f} times faster")
        person = "" if r["psnr_person_db"] is None else f", {r['psnr_person_db']:.1f} dB over the person"
        say(f"fidelity to uncached: PSNR {r['psnr_db']:.1f} dB{person}, SSIM {r['ssim']:.4f}")
    if fast["sync"] is not None:
        before = "" if slow is None else f" (uncached {slow['sync']['correlation']:.2f})"
        say(f"lip-sync: correlation {fast['sync']['correlation']:.2f}{before} at no lag")
    for name, path in _files(result).items():
        if path is not None:
            say(f"{name.replace('_', ' ')}: {shown(Path(path))}")
