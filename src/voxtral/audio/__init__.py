"""Audio as numpy arrays: read untrusted clips, encode and write speech, change its speed, measure it.

This package knows neither the model nor a fixed sample rate, and never imports torch. Each module stands alone:
`read` for what comes in, `encode` and `file` for what goes out.
"""
