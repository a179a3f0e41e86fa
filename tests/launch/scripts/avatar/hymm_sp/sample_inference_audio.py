"""The pipeline and its sampler, one guidance branch a call."""

import torch
from models.official_avatar import avatar, avatar_inputs


class FlowMatchDiscreteScheduler:
    order = 1

    def set_timesteps(self, steps, device=None, n_tokens=None):
        self.sigmas = torch.linspace(1, 0, steps + 1)
        self.timesteps = self.sigmas[:-1] * 1000
        self.at = 0

    def step(self, model_output, timestep, sample, return_dict=False):
        sigma, after = self.sigmas[self.at : self.at + 2]
        self.at += 1
        return (sample + (after - sigma) * 0.2 * model_output,)


class HunyuanVideoAudioPipeline:
    def __init__(self, transformer, scheduler):
        self.transformer, self.scheduler = transformer, scheduler

    @torch.no_grad()
    def __call__(self, num_inference_steps, guidance_scale=7.5):
        given = avatar_inputs()
        latents = given.pop("x")[:1]
        shared = ("freqs_cos", "freqs_sin")
        one, two = ({k: v if k in shared else v[i : i + 1] for k, v in given.items()} for i in range(2))
        self.scheduler.set_timesteps(num_inference_steps, device="cpu", n_tokens=48)
        timesteps = self.scheduler.timesteps
        for t in timesteps:
            t_expand = t.repeat(1)
            uncond, text = (self.transformer(latents, t_expand, **branch)["x"] for branch in (one, two))
            noise_pred = uncond + guidance_scale * (text - uncond)
            latents = self.scheduler.step(noise_pred, t, latents, return_dict=False)[0]
        return latents


class HunyuanVideoSampler:
    @classmethod
    def from_pretrained(cls, pretrained_model_path, args, device=None):
        return cls()

    def __init__(self):
        self.pipeline = HunyuanVideoAudioPipeline(avatar().requires_grad_(False), FlowMatchDiscreteScheduler())

    def predict(self, args):
        return self.pipeline(num_inference_steps=args.infer_steps, guidance_scale=args.cfg_scale or 7.5)
