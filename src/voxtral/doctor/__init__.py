"""`voxtral doctor`: what this machine would do and why, and whether a checkpoint is sound.

`checks` looks at a checkpoint, `command` is the command line. Golden vectors are judged by
tests/golden/judge.py, which `command` finds in a checkout; the sets are there as well, and no wheel
holds either. Needs torch, numpy and safetensors; what needs more is skipped with its reason.
"""
