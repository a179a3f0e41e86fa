"""One call of a transformer, from its first line to its last: what is computed, filled in and recorded."""
