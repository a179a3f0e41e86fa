"""Every error that synccache raises on purpose.

    SynccacheError
    ├── InputError       something the user gave cannot be used: a file, a setting, a name
    ├── UnsupportedModel  the model's anatomy could not be told, or the model forbids what was asked
    ├── Conflict         another cache, or a whole-model compile, is already in the way
    └── MissingPackage   a part needs a package that isn't installed

Each message says what was wrong, what was found, and what to do.
"""

from __future__ import annotations


class SynccacheError(Exception):
    """Base of every error raised on purpose; the command line prints it as one sentence and exits with 2."""


class InputError(SynccacheError, ValueError):
    """A file, a setting or a name that the user gave cannot be used."""


class UnsupportedModel(SynccacheError, TypeError):
    """The model's anatomy could not be told, or the model forbids what was asked of it."""


class Conflict(SynccacheError, RuntimeError):
    """Another cache, or a whole-model compile, is already attached to the model."""


class MissingPackage(SynccacheError, ImportError):
    """A part of synccache needs a package that isn't installed; the message says which extra brings it."""
