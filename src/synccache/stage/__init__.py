"""The built-in model that methods are judged on: rendered scenes, text, sound, several tasks in one network."""

GUIDANCE_SCALE = 4.0  # of text and sound together, where nobody says otherwise
