"""The options of the release (at fd59436), all of them, read as its ``hymm_sp/config.py`` does; 20 steps by default."""

import argparse

TEXTS = (
    "model", "latent-channels", "vae", "vae-precision", "text-encoder", "text-encoder-precision", "tokenizer",
    "text-encoder-infer-mode", "prompt-template-video", "text-encoder-2", "text-encoder-precision-2", "tokenizer-2",
    "text-projection", "flow-solver", "precision", "ckpt", "load-key", "save-path-suffix", "pos-prompt", "neg-prompt",
    "image-path", "save-path", "input", "item-name",
)  # fmt: skip
WHOLE = (
    "rope-theta", "text-states-dim", "text-len", "hidden-state-skip-layer", "text-states-dim-2", "text-len-2",
    "linear-schedule-end", "sample-n-frames", "num-images", "seed", "image-size", "use-deepcache",
)  # fmt: skip
NUMBERS = ("flow-shift-eval-video", "pad-face-size", "cfg-scale", "ip-cfg-scale")
FLAGS = (
    "vae-tiling", "apply-final-norm", "flow-reverse", "use-linear-quadratic-schedule", "reproduce", "cpu-offload",
    "infer-min", "use-fp8", "val-disable-autocast",
)  # fmt: skip


def parse_args(namespace=None):
    parser = argparse.ArgumentParser(description="Hunyuan Multimodal training/inference script")
    for names, kind in ((TEXTS, str), (WHOLE, int), (NUMBERS, float)):
        for name in names:
            parser.add_argument(f"--{name}", type=kind)
    for name in FLAGS:
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--video-size", type=int, nargs="+", default=512)
    parser.add_argument("--infer-steps", type=int, default=20)
    return parser.parse_args(namespace=namespace)
