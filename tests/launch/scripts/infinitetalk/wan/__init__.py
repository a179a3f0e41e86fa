import torch
from models import Noise
from models.official_wan import infinite_talk, wan_inputs


class InfiniteTalkPipeline:
    """No scheduler: a list of timesteps with 0 at its end, three passes a step, clip after clip."""

    def __init__(self):
        self.model = infinite_talk().requires_grad_(False)
        self.num_timesteps = 1000

    def generate_infinitetalk(self, sampling_steps, clips, text_scale=5.0, audio_scale=4.0):
        found = []
        for clip in range(clips):
            given, noise = wan_inputs(clip), Noise(clip)
            latent, audio = given["x"][0], noise(3, 4, 6)
            text, negative = given["context"], [given["context"][0] * 0.1]
            timesteps = [torch.tensor([t]) for t in torch.linspace(self.num_timesteps, 1, sampling_steps).tolist()]
            timesteps.append(torch.tensor([0.0]))
            timesteps = [1000 * 7 * (t / 1000) / (1 + 6 * t / 1000) for t in timesteps]
            shared = {"seq_len": 48}
            arg_c = {**shared, "context": text, "audio": audio}
            arg_null_text = {**shared, "context": negative, "audio": audio}
            arg_null = {**shared, "context": negative, "audio": torch.zeros_like(audio)}
            with torch.no_grad():
                for i in range(len(timesteps) - 1):
                    timestep = timesteps[i]
                    latent_model_input = [latent]
                    cond, drop_text, uncond = (
                        self.model(latent_model_input, t=timestep, **given)[0]
                        for given in (arg_c, arg_null_text, arg_null)
                    )
                    pred = uncond + text_scale * (cond - drop_text) + audio_scale * (drop_text - uncond)
                    dt = (timesteps[i] - timesteps[i + 1]) / self.num_timesteps
                    latent = latent - 0.2 * dt[:, None, None, None].squeeze(0) * pred
            found.append(latent)
        return torch.stack(found)
