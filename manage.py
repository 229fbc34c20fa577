#!/usr/bin/env python
"""The project's shell: `python manage.py help` lists its commands."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "homelab.settings")
    try:
        import homelab.settings  # noqa: F401  (a wrong value ends here, in a sentence)
    except ImproperlyConfigured as error:
        sys.exit(f"Wrong setting: {error}")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
