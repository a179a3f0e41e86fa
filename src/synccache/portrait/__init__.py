"""The built-in talking-portrait model: renderer, speech, transformer, training, evaluation."""

GUIDANCE_SCALE = 3.0  # of the audio, where nobody says otherwise: what the packaged weights were judged at
