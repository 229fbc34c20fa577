"""Sizes of the batching backend, which the memory plan counts with too. Pure."""

STEP_TOKENS_CPU = 512
STEP_TOKENS_GPU = 2048
"""At most so many go through the model at once."""
PAGE_TOKENS_CPU = 128
PAGE_TOKENS_GPU = 256
"""What flash attention's kernels want."""
DEFAULT_KV_TOKENS = 16384
"""The most that all requests together get in the paged cache, unless one context needs more or somebody chose."""
