"""Reads sound and pictures, writes and reads video. Each module stands alone: `audio`, `image`, `video`, `compose`."""
