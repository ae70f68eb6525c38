"""One utterance, and many: from the options of a caller to a plan, and from a plan to audio."""
