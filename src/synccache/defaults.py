"""Defaults that the command line tells before it imports what they belong to."""

GUIDANCE_SCALE = 3.0  # of the audio in the portrait model: what the packaged weights were judged at
TRAINING_STEPS = 2400  # of the portrait model
