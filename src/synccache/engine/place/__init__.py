"""Where a call belongs: its request, window, run, step and guidance branch."""
