"""From the name of a model to a model in memory: where it lies, what it holds, what fits."""
