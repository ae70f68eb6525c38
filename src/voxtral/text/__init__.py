"""The text side of speech: which language, how it is written out, where a long text is cut, which tokens it makes.

Nothing here knows tensors, audio or files other than the tokenizer's. Read `language.py` first, then
`clean.py`, `normalize.py` and `segment.py`; `tokenizer.py` and `prompt.py` lead on to the model.
"""
