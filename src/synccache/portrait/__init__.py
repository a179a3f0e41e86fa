"""The built-in talking-portrait model: renderer, speech, transformer, training, evaluation."""

GUIDANCE_SCALE = 2.5  # of the audio, where nobody says otherwise: what the packaged weights were judged at
