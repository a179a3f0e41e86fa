"""Launched as Wan2.2's ``generate.py`` (at 42bf4cf) is, with its options; its models and solver are small stand-ins."""

import argparse
import os
from datetime import datetime

import torch.distributed as dist
import wan
from wan.configs import MAX_AREA_CONFIGS, SIZE_CONFIGS, WAN_CONFIGS
from wan.utils.utils import merge_video_audio, save_video, str2bool

TEXTS = (
    "frame_num", "ckpt_dir", "save_file", "prompt", "prompt_extend_model", "image", "src_root_path", "audio",
    "tts_prompt_audio", "tts_prompt_text", "tts_text", "pose_video",
)  # fmt: skip
NUMBERS = {"sample_steps": int, "sample_shift": float, "sample_guide_scale": float, "num_clip": int}
FLAGS = (
    "t5_fsdp", "t5_cpu", "dit_fsdp", "use_prompt_extend", "convert_model_dtype", "replace_flag", "use_relighting_lora",
    "enable_tts", "start_from_ref",
)  # fmt: skip


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", default="t2v-A14B", choices=list(WAN_CONFIGS))
    parser.add_argument("--size", default="1280*720", choices=list(SIZE_CONFIGS))
    parser.add_argument("--offload_model", type=str2bool, default=None)
    parser.add_argument("--ulysses_size", type=int, default=1)
    parser.add_argument("--base_seed", type=int, default=-1)
    parser.add_argument("--sample_solver", default="unipc", choices=["unipc", "dpm++"])
    parser.add_argument("--prompt_extend_method", default="local_qwen", choices=["dashscope", "local_qwen"])
    parser.add_argument("--prompt_extend_target_lang", default="zh", choices=["zh", "en"])
    parser.add_argument("--refert_num", type=int, default=77)
    parser.add_argument("--infer_frames", type=int, default=80)
    for name in TEXTS:
        parser.add_argument(f"--{name}", default=None)
    for name, kind in NUMBERS.items():
        parser.add_argument(f"--{name}", type=kind, default=None)
    for name in FLAGS:
        parser.add_argument(f"--{name}", action="store_true")
    args = parser.parse_args()
    config = WAN_CONFIGS[args.task]
    assert args.ckpt_dir is not None, "Please specify the checkpoint directory."
    args.sample_steps = args.sample_steps or config.sample_steps
    return args


def generate(args):
    rank, world = int(os.getenv("RANK", 0)), int(os.getenv("WORLD_SIZE", 1))
    if world > 1:
        dist.init_process_group("gloo", init_method="env://", rank=rank, world_size=world)
        assert args.ulysses_size == world
    else:
        assert not (args.t5_fsdp or args.dit_fsdp), "not supported in non-distributed environments"
        assert args.ulysses_size == 1
    config = WAN_CONFIGS[args.task]
    made = {
        "config": config, "checkpoint_dir": args.ckpt_dir, "rank": rank, "t5_fsdp": args.t5_fsdp,
        "dit_fsdp": args.dit_fsdp, "use_sp": args.ulysses_size > 1, "t5_cpu": args.t5_cpu,
        "convert_model_dtype": args.convert_model_dtype,
    }  # fmt: skip
    sampled = {
        "sample_solver": args.sample_solver, "sampling_steps": args.sample_steps, "seed": args.base_seed,
        "offload_model": args.offload_model if args.offload_model is not None else world == 1,
    }  # fmt: skip
    if args.task == "s2v-14B":
        video = wan.WanS2V(**made).generate(
            input_prompt=args.prompt, ref_image_path=args.image, audio_path=args.audio, enable_tts=args.enable_tts,
            tts_prompt_audio=args.tts_prompt_audio, tts_prompt_text=args.tts_prompt_text, tts_text=args.tts_text,
            num_repeat=args.num_clip, pose_video=args.pose_video, max_area=MAX_AREA_CONFIGS[args.size],
            infer_frames=args.infer_frames, init_first_frame=args.start_from_ref, **sampled,
        )  # fmt: skip
    else:
        video = wan.WanT2V(**made).generate(args.prompt, size=SIZE_CONFIGS[args.size], **sampled)
    name = args.save_file or f"{args.task}_{args.size}_{args.ulysses_size}_{datetime.now():%Y%m%d_%H%M%S}.mp4"
    save_video(video, save_file=f"{name}.{rank}" if world > 1 else name, fps=config.sample_fps)
    if "s2v" in args.task and rank == 0:
        merge_video_audio(video_path=name, audio_path=args.audio)
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    generate(arguments())
