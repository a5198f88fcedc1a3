"""Checkpoints and models: found, read, made, adapted."""
