"""The clips are kept as tensors, so that they can be compared."""

import torch


def str2bool(text):
    return text.lower() in ("yes", "true", "t", "y", "1")


def save_video(tensor, save_file=None, fps=30, suffix=".mp4", nrow=8, normalize=True, value_range=(-1, 1)):
    torch.save(tensor, save_file)


def merge_video_audio(video_path, audio_path):
    pass
