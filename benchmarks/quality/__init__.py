"""The evaluation of nano: what is said, how it sounds, in whose voice, and whether the tests can fail.

    phonemes.py    edit distance, retrieval, alignment, n-gram overlap
    acoustics.py   mel-cepstra, time warping, pitch, silence
    speakers.py    who speaks: an own measure, and Resemblyzer where it is installed
    cases.py       sentences as the teacher speaks them; distractors
    systems.py     what is judged: codec copies, nano, clones, and the negative controls
    judge.py       one utterance to figures, figures to means
    long_text.py   a minute in one go; whether speech ends by itself
    bars.py        the bars and who passes them
    pictures.py    spectrograms as PNG
    page.py        a report into docs/QUALITY.md

`python -m benchmarks.quality` runs it all; docs/QUALITY.md says what the figures mean.
"""
