"""Every Python program under test imports this when it starts, as its folder is in the PYTHONPATH of the tests.

The search for garbage takes a third of the two seconds of CPU that a program with torch needs to start and to end:
again and again it looks at what is imported, which is never garbage.
"""

import atexit
import gc

# A tenth as often, and at the end, where all is taken down, not at all.
gc.set_threshold(10_000, 10, 10)
atexit.register(gc.freeze)
