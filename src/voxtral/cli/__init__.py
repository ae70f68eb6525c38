"""The command `voxtral`: `main` chooses a command, each other module holds one or two of them.

A command is a plain function whose parameters are the options and whose docstring is the help. It
calls the same Python API as everybody else and knows no tensor of the model. Start with `main`.
"""
