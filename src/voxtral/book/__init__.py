"""Books: any EPUB, page or text in, chapters of blocks out, nothing lost. Read next: `voxtral.book.types`."""
