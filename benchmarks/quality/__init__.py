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

Whether all of a text is said, odd texts first of all, is measured apart from that:

    odd_texts.py      what people paste in, and what is to be heard of it
    references.py     its phonemes, kept in files
    coverage.py       the longest run that is missing, and the longest that is in no text
    spoken.py         speaks the odd texts and counts (spoken_report.py)
    cuts.py           how often that is right
    blends.py         whether two voices can be blended, by several ways
    one_segment.py    texts too long for one segment, and good sentences, for who checks speech

`python -m benchmarks.quality` runs it all; docs/QUALITY.md says what the figures mean.
"""
