"""In the place of the repository's own UniPC: Euler on the same kind of schedule, kept in a local variable."""

import torch
import torch.distributed as dist
from models.official import Whole


class FlowUniPCMultistepScheduler:
    order = 1

    def __init__(self, shift):
        self.shift = shift

    def set_timesteps(self, steps, device):
        sigmas = torch.linspace(0.999, 0, steps + 1, device=device)
        self.sigmas = self.shift * sigmas / (1 + (self.shift - 1) * sigmas)
        self.timesteps = (1000 * self.sigmas[:-1]).int().float()
        self.num_inference_steps, self.at = steps, 0

    def step(self, noise, t, sample):
        sigma, after = self.sigmas[self.at : self.at + 2]
        self.at += 1
        return sample + (after - sigma) * 0.2 * noise


class Processes(Whole):
    """Ulysses over the processes of the default group."""

    def __init__(self):
        self.size, self.rank = dist.get_world_size(), dist.get_rank()

    def gather(self, x):
        parts = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts, dim=1)

    def share(self, x):
        return torch.chunk(x, self.size, dim=1)[self.rank]
