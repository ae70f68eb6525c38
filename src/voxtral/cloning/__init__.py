"""Voices from clips where a checkpoint has no codec encoder: codes that are searched for through the decoder.

Nothing here is imported by a model that only speaks. Read next: `voxtral.cloning.refine` and docs/CLONING.md.
"""
