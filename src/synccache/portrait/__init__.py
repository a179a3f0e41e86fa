"""The built-in talking-portrait model: renderer, speech, transformer, training, evaluation."""

from ..extras import require

require("The portrait model", "PIL", "av", "cv2", "diffusers", "matplotlib", "pillow_heif", "scipy", "skimage")
