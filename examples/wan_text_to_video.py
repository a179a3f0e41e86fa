"""Wan text to video with diffusers (0.42.1), uncached and cached, with the same noise.

python examples/wan_text_to_video.py "A cat walks on the grass, realistic." --speed 3
"""

import argparse
import time

import torch
from diffusers import AutoencoderKLWan, WanPipeline
from diffusers.utils import encode_video

import synccache

parser = argparse.ArgumentParser()
parser.add_argument("prompt")
parser.add_argument("--model", default="Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
parser.add_argument("--speed", default="balanced", help="how many times faster: 3, or quality, balanced, fast")
args = parser.parse_args()

vae = AutoencoderKLWan.from_pretrained(args.model, subfolder="vae", torch_dtype=torch.float32)
pipe = WanPipeline.from_pretrained(args.model, vae=vae, torch_dtype=torch.bfloat16).to("cuda")

for name, cache in (("uncached", {"method": "none"}), ("cached", {"speed": args.speed})):
    with synccache.cached(pipe, **cache) as handle:
        before, noise = time.perf_counter(), torch.Generator().manual_seed(0)
        video = pipe(args.prompt, height=480, width=832, num_frames=81, generator=noise).frames[0]
    print(f"{name}: {time.perf_counter() - before:.1f} s\n{handle.trace.summary()}\n")
    encode_video(video, fps=16, output_path=f"{name}.mp4")
