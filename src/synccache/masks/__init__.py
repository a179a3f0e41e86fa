"""Where the person is: soft masks from a photo, pooled to the token grid."""

from .person import face_mask, load_mask, person_mask, to_token_grid

__all__ = ["face_mask", "load_mask", "person_mask", "to_token_grid"]
