"""Attach and detach, steps and branches, anchors, trace. Knows no method and no model by name."""
