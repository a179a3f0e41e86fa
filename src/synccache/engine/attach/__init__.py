"""Hooks on modules, and what one computed call shows of a model's blocks."""
