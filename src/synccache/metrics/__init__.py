"""How good a clip is: `fidelity` to another, `sync` of lips and sound, `statistics` over clips."""

from ..extras import require

require("Measuring fidelity and lip-sync", "skimage")
