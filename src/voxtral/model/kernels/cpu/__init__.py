"""Products of matrices of few bits on a CPU, in C of our own: built, found, and called.

`source` is the C; `building` compiles it and keeps what was compiled, without torch, so that the build of a wheel uses
the same; `library` opens one library and chooses the instructions; `products` calls it with tensors. Nothing here is
believed before `voxtral.model.linear_kernel` has tried it.
"""
