"""Embeddings computed here, by fastembed (ONNX on the CPU), in a process of their own.

`embedder` is the port; `process` starts that process and speaks to it; `model` is it.

Why a process: Python's lock is held around all that ONNX computes, by a thread for documents that
steps back and may be put aside with the lock in its hands. In threads of the gateway four
connections were answered 67 to 133 questions a second, here 106 to 184 (seven pairs in turns); the
event loop stood still for up to 29 ms while the model was loaded, here for 6.

This file imports nothing: the model's process starts from here and has to be small.
"""
