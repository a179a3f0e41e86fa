"""Reads sound and pictures, writes and reads video. Each module stands alone: `audio`, `image`, `video`, `compose`."""

from ..extras import require

require("Reading and writing pictures, sound and video", "PIL", "av", "cv2", "matplotlib", "pillow_heif")
