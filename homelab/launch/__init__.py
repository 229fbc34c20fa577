"""The start of all processes with one command: `python -m homelab.launch`."""
