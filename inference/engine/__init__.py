"""The child process that serves one model: `python -m inference.engine --socket P --model-path DIR --model-name N`.

It imports nothing of the rest of the project. What imports torch or transformers is imported by the model thread alone,
in `stages`: all that the HTTP side needs answers before they are there.
"""
