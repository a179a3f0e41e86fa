"""Launched as HunyuanVideo-Avatar's ``hymm_sp/sample_batch.py`` is, by torchrun. Here no tokens are shared."""

import torch
import torch.distributed as dist

from hymm_sp.config import parse_args
from hymm_sp.sample_inference_audio import HunyuanVideoSampler


def main():
    args = parse_args()
    dist.init_process_group("gloo", init_method="env://")
    sampler = HunyuanVideoSampler.from_pretrained(args.ckpt, args=args)
    video = sampler.predict(args)
    if dist.get_rank() == 0:
        torch.save(video, args.save_path)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
