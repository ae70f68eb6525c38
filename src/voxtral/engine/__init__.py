"""The engine: one thread that owns the device and turns prompts into audio, frame by frame.

Start with `voxtral.engine.engine`; `runner` is the only file here that touches the model.
"""
