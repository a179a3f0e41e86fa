"""A plain diffusers script: Wan text-to-video, with tiny random weights in the place of a checkpoint."""

import argparse

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline
from models import wan

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--output", required=True)
args = parser.parse_args()

torch.manual_seed(0)
vae = AutoencoderKLWan(
    base_dim=3, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
)
pipe = WanPipeline(
    tokenizer=None, text_encoder=None, vae=vae, transformer=wan.build(),
    scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
)  # fmt: skip
pipe.set_progress_bar_config(disable=True)
prompts = torch.randn(2, 1, 6, pipe.transformer.config.text_dim)
latents = pipe(
    prompt_embeds=prompts[0], negative_prompt_embeds=prompts[1], height=32, width=32, num_frames=9,
    num_inference_steps=args.steps, guidance_scale=5.0, output_type="latent", generator=torch.manual_seed(1),
).frames  # fmt: skip
torch.save(latents, args.output)
