"""Wan2.2 image to video with diffusers (0.42.1): both experts cached, and a mask that says where the person is.

python examples/wan_image_to_video.py portrait.jpg "She smiles." --mask person.png
"""

import argparse

import torch
from diffusers import WanImageToVideoPipeline
from diffusers.utils import encode_video, load_image

import synccache

parser = argparse.ArgumentParser()
parser.add_argument("image")
parser.add_argument("prompt")
parser.add_argument("--mask", help="a picture, white where the person is")
parser.add_argument("--model", default="Wan-AI/Wan2.2-I2V-A14B-Diffusers")
parser.add_argument("--speed", default="quality", help="how many times faster: 3, or quality, balanced, fast")
parser.add_argument("--out", default="video.mp4")
args = parser.parse_args()

pipe = WanImageToVideoPipeline.from_pretrained(args.model, torch_dtype=torch.bfloat16)
pipe.enable_model_cpu_offload()  # before or after the cache

image = load_image(args.image)
scale = (480 * 832 / (image.width * image.height)) ** 0.5  # the area that the model is made for
width, height = (round(side * scale / 16) * 16 for side in image.size)

with synccache.cached(pipe, speed=args.speed, mask=args.mask) as handle:
    video = pipe(image.resize((width, height)), args.prompt, height=height, width=width, num_frames=81).frames[0]
print(handle.trace.summary())
encode_video(video, fps=16, output_path=args.out)
