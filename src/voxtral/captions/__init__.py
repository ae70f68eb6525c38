"""What is heard when, as files that players and programs read: words to cues, cues to formats.

Pure functions on a text and its segments; no files, no model, no torch.
"""
