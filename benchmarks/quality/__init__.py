"""The evaluation of nano: what is said, how it sounds, in whose voice, and whether the tests can fail.

    phonemes.py    edit distance, retrieval, alignment, n-gram overlap
    acoustics.py   mel-cepstra, time warping, pitch, silence
    speakers.py    who speaks: an own measure, and Resemblyzer where it is installed
    teachers.py    who speaks as the recogniser's teachers do: espeak-ng, or those of a corpus of shards
    takes.py       what the latter said, kept in files
    cases.py       sentences as the teacher speaks them; distractors
    systems.py     what is judged: codec copies, nano, clones, and the negative controls
    judge.py       one utterance to figures, figures to means
    long_text.py   a minute in one go; whether speech ends by itself
    bars.py        the bars and who passes them
    validity.py    the recogniser itself, on what was kept from its training
    pictures.py    spectrograms as PNG, and a page of them
    page.py        a report into docs/QUALITY.md
    options.py     which model, which recogniser, which teachers; runs are not mixed

Whether all of a text is said, odd texts first of all, is measured apart from that:

    odd_texts.py      what people paste in, and what is to be heard of it
    references.py     its phonemes, kept in files, in the alphabet of either recogniser
    coverage.py       the longest run that is missing, and the longest that is in no text
    spoken.py         speaks the odd texts and counts (spoken_report.py)
    cuts.py           how often that is right
    blends.py         whether two voices can be blended, by several ways
    one_segment.py    texts too long for one segment, and good sentences, for who checks speech

What strangers' instruments hear, in an environment of its own:

    clips.py        who says what, in files; the controls that must not be understood
    instruments.py  whisper-base, DNSMOS, pitch
    heard.py        errors in words and characters
    outside.py      judges and reports

`python -m benchmarks.quality` runs all of the first list; docs/QUALITY.md says what the figures mean.
"""
