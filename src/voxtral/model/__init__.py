"""The networks of Voxtral TTS in plain torch: no threads, no files, no network.

Start with `voxtral.model.voxtral`, which names the tensor dimensions; docs/MODEL.md has the mathematics.
"""
