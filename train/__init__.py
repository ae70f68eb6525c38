"""Training of nano, from texts to a checkpoint that the runtime loads unchanged.

One file per stage, in the order of `recipes/nano.sh`: `data`, `recogniser`, `codec`, `encode`,
`language_model`, `export`; `benchmarks.quality` judges the result. Not part of the installed package.
"""
