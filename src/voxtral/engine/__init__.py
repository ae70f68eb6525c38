"""The engine: one thread that owns the device and turns prompts into audio, frame by frame.

Start with `voxtral.engine.engine`, which knows a runner by `protocol` alone; the model is touched by `runner` and by
what is below it.
"""
