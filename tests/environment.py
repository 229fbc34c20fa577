"""The environment of the tests, set before Django's settings are imported: nothing of the user's `.env`.

A plugin (`-p tests.environment`), because pytest-django reads the settings before any conftest is loaded.
"""

import os
import shutil
import signal
import tempfile

FOLDER = tempfile.mkdtemp(prefix="homelab-tests-")

for _name in (
    "HF_TOKEN",
    "REDIS_URL",
    "HOST",
    "PORT",
    "LOCAL_TRUST",
    "SECRET_KEY",
    "ALLOWED_HOSTS",
    "TRUSTED_PROXIES",
    "HTTPS",
):
    os.environ.pop(_name, None)
os.environ |= {
    "HOMELAB_ENV_FILE": os.devnull,
    "DATA_DIR": f"{FOLDER}/data",
    "DATABASE_URL": os.environ.get("TEST_DATABASE_URL", ""),
    "PRIMARY_CACHE_PATH": f"{FOLDER}/fast",
    "SECONDARY_CACHE_PATH": f"{FOLDER}/slow",
    "HF_ENDPOINT": "http://127.0.0.1:9",  # nobody listens there
    # Tiny models gain nothing by a second thread, and on a busy machine the two wait for each other.
    "OMP_NUM_THREADS": "1",
}

# A shell starts what runs in the background deaf to Ctrl-C, and the servers that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
