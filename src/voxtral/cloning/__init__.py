"""Voices from clips where a checkpoint has no codec encoder.

Either their codes are searched for through the decoder (`search`, `refine`), or an encoder is distilled from the
model's own speech (`phases`, `generate`, `trainer`). Nothing here is imported by a model that only speaks. Read next:
docs/CLONING.md.
"""
