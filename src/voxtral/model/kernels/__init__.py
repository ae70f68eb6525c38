"""Fused operations of one frame: each in plain torch, and as a Triton kernel for a GPU.

A public function holds the torch form, which runs everywhere and says what the kernel computes, rounding included. On
a CUDA device with Triton it hands over to the module of the same name with `_triton` behind it, the only ones that
import Triton, and only then. Kernels allocate their results, never wait for the device, and keep shapes that depend on
the shapes of their inputs alone, so that a CUDA graph can hold them.
"""
