"""Voices: prompts of a speaker, presets of a checkpoint, and those that users made."""
