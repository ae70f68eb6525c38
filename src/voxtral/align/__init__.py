"""Which word is heard when, and whether all of them are: from the attention of the model itself.

`attention` reads it from a model, `path` makes a way through the text of it. docs/ALIGN.md explains both.
"""
