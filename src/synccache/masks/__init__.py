"""Where the person is: soft masks from a photo, pooled to the token grid."""

from ..extras import require

require("Finding the person in a photo", "PIL", "cv2", "skimage")

from .person import face_mask, load_mask, person_mask, to_token_grid  # noqa: E402

__all__ = ["face_mask", "load_mask", "person_mask", "to_token_grid"]
