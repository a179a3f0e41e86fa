"""Launched as Wan2.2's ``generate.py`` is; its models and solver are small stand-ins."""

import argparse
import os

import torch
import torch.distributed as dist
import wan


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", default="t2v-A14B", choices=["t2v-A14B", "s2v-14B"])
    parser.add_argument("--size", default="1280*720")
    parser.add_argument("--ckpt_dir")
    parser.add_argument("--offload_model", type=lambda text: text == "True", default=None)
    parser.add_argument("--ulysses_size", type=int, default=1)
    parser.add_argument("--sample_steps", type=int, default=20)
    parser.add_argument("--convert_model_dtype", action="store_true")
    parser.add_argument("--save_file", required=True)
    return parser.parse_args()


def generate(args):
    rank, world = int(os.getenv("RANK", 0)), int(os.getenv("WORLD_SIZE", 1))
    if world > 1:
        dist.init_process_group("gloo", init_method="env://", rank=rank, world_size=world)
        assert args.ulysses_size == world
    make = wan.WanS2V if args.task == "s2v-14B" else wan.WanT2V
    pipeline = make(use_sp=args.ulysses_size > 1)
    video = pipeline.generate(sampling_steps=args.sample_steps, offload_model=args.offload_model)
    torch.save(video, f"{args.save_file}.{rank}" if world > 1 else args.save_file)
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    generate(arguments())
