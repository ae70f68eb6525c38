"""Speech to audiobooks: chapters of samples in, one file with chapters, tags and a cover out, or one for each chapter.

It knows no text and no model. Read next: `voxtral.book.output.write`; for books that are read aloud while they are
shown, `voxtral.book.output.overlay`.
"""
