"""The child process that serves one model: `python -m inference.engine --socket P --model-path DIR --model-name N`.

It imports nothing of the rest of the project. Only `loading`, `sampling` and `generate` import torch or transformers,
and only the model thread imports these three: everything else answers before they are there.
"""
