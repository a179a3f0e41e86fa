import types

import torch
from models import seeded
from models.official_wan import WanModel, wan_inputs

from .solver import FlowUniPCMultistepScheduler, Processes


def sp_dit_forward(self, *args, **kwargs):
    return type(self).forward(self, *args, **kwargs)


class WanT2V:
    """Two experts, one for the noisy steps, moved to the processor and back where they are offloaded."""

    def __init__(
        self, config, checkpoint_dir, device_id=0, rank=0, t5_fsdp=False, dit_fsdp=False, use_sp=False, t5_cpu=False,
        init_on_cpu=True, convert_model_dtype=False,
    ):  # fmt: skip
        self.low_noise_model = self._configure_model(seeded(WanModel), use_sp)
        self.high_noise_model = self._configure_model(seeded(WanModel), use_sp)
        self.boundary = 0.875

    def _configure_model(self, model, use_sp):
        model.eval().requires_grad_(False)
        if use_sp:
            model.ranks = Processes()
            for block in model.blocks:
                block.self_attn.ranks = model.ranks
            model.forward = types.MethodType(sp_dit_forward, model)
        return model

    def _prepare_model_for_timestep(self, t, boundary, offload_model):
        name = "high_noise_model" if t.item() >= boundary else "low_noise_model"
        if offload_model:
            getattr(self, name).to("cpu")
        return getattr(self, name)

    def generate(
        self, input_prompt, size=(1280, 720), frame_num=81, shift=5.0, sample_solver="unipc", sampling_steps=50,
        guide_scale=4.0, n_prompt="", seed=-1, offload_model=True,
    ):  # fmt: skip
        given = wan_inputs()
        with torch.no_grad():
            sample_scheduler = FlowUniPCMultistepScheduler(shift=12)
            sample_scheduler.set_timesteps(sampling_steps, device="cpu")
            timesteps = sample_scheduler.timesteps
            latents = given.pop("x")
            arg_c = given
            arg_null = {**given, "context": [c * 0.1 for c in given["context"]]}
            boundary = self.boundary * 1000
            for _, t in enumerate(timesteps):
                timestep = torch.stack([t])
                model = self._prepare_model_for_timestep(t, boundary, offload_model)
                cond = model(latents, t=timestep, **arg_c)[0]
                uncond = model(latents, t=timestep, **arg_null)[0]
                noise_pred = uncond + guide_scale * (cond - uncond)
                latents = [sample_scheduler.step(noise_pred[None], t, latents[0][None])[0]]
        return latents[0]
