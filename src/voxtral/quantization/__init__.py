"""Which matrices get how few bits, and how their numbers are chosen."""
