"""`voxtral doctor`: what this machine would do and why, and whether the numbers are the official ones.

`vectors` runs golden vectors through the product's own code, `checks` looks at a
checkpoint that has no vectors, `command` is the command line. Needs torch, numpy and safetensors;
what needs more is skipped with its reason.
"""
