"""Many texts into a folder of files, gone on with after a kill."""
