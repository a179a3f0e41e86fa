import torch
from models import seeded
from models.official import WanModel_S2V, s2v_inputs

from .solver import FlowUniPCMultistepScheduler, Processes


class WanS2V:
    """Clip after clip, each with a scheduler of its own; the first drops its motion tokens."""

    def __init__(
        self, config, checkpoint_dir, device_id=0, rank=0, t5_fsdp=False, dit_fsdp=False, use_sp=False, t5_cpu=False,
        init_on_cpu=True, convert_model_dtype=False,
    ):  # fmt: skip
        self.noise_model = seeded(WanModel_S2V).requires_grad_(False)
        if use_sp:
            self.noise_model.ranks = Processes()
            for block in self.noise_model.blocks:
                block.ranks = self.noise_model.ranks
            self.noise_model.use_context_parallel = True

    def generate(
        self, input_prompt, ref_image_path, audio_path, enable_tts, tts_prompt_audio, tts_prompt_text, tts_text,
        num_repeat=1, pose_video=None, max_area=720 * 1280, infer_frames=80, shift=5.0, sample_solver="unipc",
        sampling_steps=40, guide_scale=4.5, n_prompt="", seed=-1, offload_model=True, init_first_frame=False,
    ):  # fmt: skip
        clips = []
        with torch.amp.autocast("cpu", enabled=False), torch.no_grad():
            for r in range(num_repeat or 2):  # as many as the audio takes
                given = s2v_inputs(seed=r)
                sample_scheduler = FlowUniPCMultistepScheduler(shift=3)
                sample_scheduler.set_timesteps(sampling_steps, device="cpu")
                timesteps = sample_scheduler.timesteps
                latents = given.pop("x")
                shared = {
                    **given, "ref_latents": given["ref_latents"].repeat(1, 1, 1, 1, 1), "drop_motion_frames": r == 0,
                }  # fmt: skip
                arg_c = shared
                arg_null = {
                    **shared, "context": [c * 0.1 for c in shared["context"]],
                    "audio_input": 0.0 * shared["audio_input"],
                }  # fmt: skip
                for _i, t in enumerate(timesteps):
                    timestep = torch.stack([t])
                    cond = self.noise_model(latents[0:1], t=timestep, **arg_c)
                    uncond = self.noise_model(latents[0:1], t=timestep, **arg_null)
                    noise_pred = [u + guide_scale * (c - u) for c, u in zip(cond, uncond, strict=True)]
                    latents = [sample_scheduler.step(noise_pred[0][None], t, latents[0][None])[0]]
                clips.append(latents[0])
        return torch.stack(clips)
