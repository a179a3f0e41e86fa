"""Wan2.2-S2V from Python: the official class with a cache. Run it in a checkout of Wan-Video/Wan2.2 (at 42bf4cf):

    PYTHONPATH=. python ../synccache/examples/s2v_official.py portrait.jpg speech.wav talk.mp4

Without Python of yours, `synccache run -- generate.py ...` does the same: docs/use/wan-s2v.md.
"""

import argparse

import wan
from wan.configs import MAX_AREA_CONFIGS, WAN_CONFIGS
from wan.utils.utils import merge_video_audio, save_video

import synccache

parser = argparse.ArgumentParser()
parser.add_argument("image")
parser.add_argument("audio")
parser.add_argument("out")
parser.add_argument("--prompt", default="A person speaks to the camera.")
parser.add_argument("--checkpoint", default="./Wan2.2-S2V-14B")
parser.add_argument("--speed", default="balanced", help="how many times faster: 3, or quality, balanced, fast")
args = parser.parse_args()

config = WAN_CONFIGS["s2v-14B"]
pipe = wan.WanS2V(config=config, checkpoint_dir=args.checkpoint, convert_model_dtype=True)

# The release keeps its tokens in float32; storing in bfloat16 takes half of the memory. Its scheduler is made inside
# generate(), where it can't be seen: `steps` says how long a run is.
handle = synccache.apply(pipe, speed=args.speed, steps=config.sample_steps, storage_dtype="bfloat16")
video = pipe.generate(
    input_prompt=args.prompt,
    ref_image_path=args.image,
    audio_path=args.audio,
    enable_tts=False,
    tts_prompt_audio=None,
    tts_prompt_text=None,
    tts_text=None,
    num_repeat=None,  # as many clips as the sound takes
    max_area=MAX_AREA_CONFIGS["832*480"],
    shift=config.sample_shift,
    sampling_steps=config.sample_steps,
    guide_scale=config.sample_guide_scale,
    seed=0,
)
handle.remove()

print(handle.trace.summary())
save_video(tensor=video[None], save_file=args.out, fps=config.sample_fps, normalize=True, value_range=(-1, 1))
merge_video_audio(video_path=args.out, audio_path=args.audio)
