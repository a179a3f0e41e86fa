"""The settings that the launched script reads; half as many steps as the release takes."""

from types import SimpleNamespace

WAN_CONFIGS = {
    task: SimpleNamespace(sample_steps=20, sample_shift=3, sample_guide_scale=4.5, sample_fps=16)
    for task in ("t2v-A14B", "i2v-A14B", "ti2v-5B", "animate-14B", "s2v-14B")
}
SIZE_CONFIGS = {
    f"{width}*{height}": (width, height)
    for pair in ((720, 1280), (480, 832), (704, 1280), (1024, 704))
    for width, height in (pair, pair[::-1])
}
MAX_AREA_CONFIGS = {name: width * height for name, (width, height) in SIZE_CONFIGS.items()}
