"""Launched as InfiniteTalk's ``generate_infinitetalk.py`` is."""

import argparse

import torch
import wan


def main():
    parser = argparse.ArgumentParser()
    for name in ("--ckpt_dir", "--wav2vec_dir", "--infinitetalk_dir", "--input_json", "--size", "--mode"):
        parser.add_argument(name)
    parser.add_argument("--sample_steps", type=int, default=20)
    parser.add_argument("--motion_frame", type=int, default=9)
    parser.add_argument("--save_file", required=True)
    args = parser.parse_args()
    pipeline = wan.InfiniteTalkPipeline()
    torch.save(pipeline.generate_infinitetalk(args.sample_steps, clips=2), args.save_file)


if __name__ == "__main__":
    main()
