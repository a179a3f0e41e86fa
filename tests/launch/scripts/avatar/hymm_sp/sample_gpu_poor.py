"""Launched as HunyuanVideo-Avatar's ``hymm_sp/sample_gpu_poor.py`` is: from its folder, with ``PYTHONPATH=./``."""

import torch

from hymm_sp.config import parse_args
from hymm_sp.sample_inference_audio import HunyuanVideoSampler


def main():
    args = parse_args()
    sampler = HunyuanVideoSampler.from_pretrained(args.ckpt, args=args)
    torch.save(sampler.predict(args), args.save_path)


if __name__ == "__main__":
    main()
