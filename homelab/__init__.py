"""The project's wiring: settings, URLs, the gate, the start."""
