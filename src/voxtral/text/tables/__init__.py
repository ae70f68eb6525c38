"""The tables that a language's file may have for what is read aloud, one module for each kind of thing.

They are dataclasses whose fields are the keys of the file; `language_data.py` reads them, `data/README.md` explains the
keys, and the rule of the same name in `reading` uses them.
"""
