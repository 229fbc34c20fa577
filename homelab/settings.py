"""The project's settings. Only this module reads the environment; `.env.example` explains each name."""

import os
import secrets
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import django_stubs_ext
import environ
from django.core.exceptions import ImproperlyConfigured

from homelab.beat import beat_schedule
from homelab.env import Reader, load_env_file, wrong
from homelab.protection import *  # noqa: F403  (settings of Django and its libraries that no environment changes)
from homelab.protection import silenced_checks
from homelab.static_files import is_collected, storages

django_stubs_ext.monkeypatch()  # ModelForm[...] and the like, at run time too

BASE_DIR = Path(__file__).resolve().parent.parent
ENV_FILE = Path(os.environ.get("HOMELAB_ENV_FILE", BASE_DIR / ".env"))
env = Reader(from_file=load_env_file(ENV_FILE))

GB = 10**9
MB = 10**6


def _private_folder(path: Path) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"The folder {path} cannot be made: {error.strerror}. Set DATA_DIR.") from error
    return path


def _secret_from(path: Path) -> str:
    """The secret in the file, made at first start, readable by its owner alone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii")
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(secret := secrets.token_urlsafe(48))
    return secret


def _runtime_folder(data_dir: Path) -> Path:
    """Where sockets live. Their paths end near 107 bytes, so a deep DATA_DIR gets a short folder instead."""
    folder = data_dir / "run"
    if len(os.fsencode(folder)) > 60:
        name = f"homelab-{os.getuid()}-{sha256(os.fsencode(data_dir)).hexdigest()[:12]}"
        folder = Path(min(tempfile.gettempdir(), "/tmp", key=len)) / name  # noqa: S108 (it is private, see below)
    _private_folder(folder)
    if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
        raise ImproperlyConfigured(f"The folder {folder} belongs to somebody else. Set a shorter DATA_DIR.")
    return folder


# Where things are
DATA_DIR = _private_folder(env.path("DATA_DIR", BASE_DIR / "data"))
RUNTIME_DIR = _runtime_folder(DATA_DIR)
OWNERS_SOCKET = RUNTIME_DIR / "web.sock"
HOST = env.text("HOST", "127.0.0.1")
PORT = env.integer("PORT", 8000, minimum=1, maximum=65535)

# Caches: paths and limits are the user's
PRIMARY_CACHE_PATH = env.path("PRIMARY_CACHE_PATH", "~/.cache/huggingface/hub")
PRIMARY_CACHE_LIMIT_BYTES = int(env.number("PRIMARY_CACHE_LIMIT_GB", 100, minimum=0.001, maximum=10**6) * GB)
SECONDARY_CACHE_PATH = env.path("SECONDARY_CACHE_PATH", "/mnt/z/llm-models-cache")
SECONDARY_CACHE_LIMIT_BYTES = int(env.number("SECONDARY_CACHE_LIMIT_GB", 2000, minimum=0.001, maximum=10**6) * GB)
CACHE_WARNING_THRESHOLD = env.number("CACHE_WARNING_THRESHOLD", 0.9, minimum=0.01, maximum=1)
CACHE_MONITOR_INTERVAL_SECONDS = env.integer("CACHE_MONITOR_INTERVAL_SECONDS", 300, minimum=1, maximum=86400)
CACHE_EVENT_WEBHOOK_URL = env.web_address("CACHE_EVENT_WEBHOOK_URL")
CACHE_ALLOWED_ROOTS = [
    Path(root).expanduser()
    for root in env.listing("CACHE_ALLOWED_ROOTS", ["~", "/mnt", "/media", "/run/media", "/srv", "/data"])
]
DISK_RESERVE_BYTES = int(env.number("DISK_RESERVE_GB", 2, minimum=0) * GB)

# Jobs: downloads, moves and what else takes long
JOBS_PER_DRIVE_PAIR = env.integer("JOBS_PER_DRIVE_PAIR", 1, minimum=1, maximum=16)
_RATE_LIMIT_MB = env.optional_number("TRANSFER_RATE_LIMIT_MB", minimum=0.1)
TRANSFER_RATE_LIMIT_BYTES = None if _RATE_LIMIT_MB is None else int(_RATE_LIMIT_MB * MB)
TRANSFER_PRIORITY = env.choice("TRANSFER_PRIORITY", "idle", among=["idle", "normal"])
TRASH_DAYS = env.integer("TRASH_DAYS", 7, minimum=0, maximum=3650)
SCRUB_GB_PER_NIGHT = env.number("SCRUB_GB_PER_NIGHT", 50, minimum=0, maximum=10**6)

# The Hub
HF_ENDPOINT = env.text("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
HF_TOKEN = env.secret("HF_TOKEN")

# Engines
KEEP_ALIVE_SECONDS = env.duration_seconds("KEEP_ALIVE", "5m")
ENGINE_STANDBY = env.boolean("ENGINE_STANDBY", default=False)
MAX_QUEUED_REQUESTS = env.integer("MAX_QUEUED_REQUESTS", 64, minimum=1, maximum=10_000)

# How much a client may have: see homelab/limits.py
REQUESTS_PER_MINUTE = env.integer("REQUESTS_PER_MINUTE", 3000, minimum=1, maximum=10**6)
MAX_EVENT_STREAMS = env.integer("MAX_EVENT_STREAMS", 64, minimum=1, maximum=10_000)

# Who may come in: see homelab/gate
LOCAL_TRUST = env.boolean("LOCAL_TRUST", default=True)
HTTPS = env.boolean("HTTPS", default=False)
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES")
OWN_NAMES = env.host_names("ALLOWED_HOSTS")
# The gate has looked at the Host of every request, and knows more: the address at which a connection arrived.
ALLOWED_HOSTS = ["*"]
FIRST_KEY_FILE = DATA_DIR / "first-api-key"
SECRET_KEY = env.secret("SECRET_KEY") or env.keep_secret(_secret_from(DATA_DIR / "secret_key"))
DEBUG = False
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_SAMESITE = "Strict"
CSRF_COOKIE_SAMESITE = "Strict"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 365 * 86400 if HTTPS else 0
SILENCED_SYSTEM_CHECKS = silenced_checks(https=HTTPS)

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.forms",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework_api_key",
    "axes",
    "csp",
    "homelab",
    "access",
    "cachemgr",
    "registry",
    "inference",
    "web",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "homelab.compression.CompressedPages",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "homelab.owner.LocalOwnerMiddleware",
    "homelab.audit.ActorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "homelab.urls"
ASGI_APPLICATION = "homelab.asgi.application"
APPEND_SLASH = False
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
CSRF_FAILURE_VIEW = "homelab.api.csrf_failure"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

FORM_RENDERER = "django.forms.renderers.TemplatesSetting"

# The database: SQLite unless DATABASE_URL names another


def _database(url: str) -> dict[str, Any]:
    try:
        config: dict[str, Any] = environ.Env.db_url_config(url)
    except Exception as error:  # django-environ raises whatever its parser meets
        raise wrong("DATABASE_URL", url, "a URL such as postgres://user:password@host/name") from error
    if not config.get("ENGINE"):
        raise wrong("DATABASE_URL", url, "a URL such as postgres://user:password@host/name")
    if config["ENGINE"] == "django.db.backends.sqlite3":
        # IMMEDIATE: a transaction that reads first and writes later would meet "database is locked".
        config["TEST"] = {"NAME": DATA_DIR / "test.sqlite3"}  # threads cannot share a database in memory
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
    return config


DATABASES = {"default": _database(env.text("DATABASE_URL", f"sqlite:///{DATA_DIR / 'db.sqlite3'}"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The broker: a wake-up line only, jobs are rows
REDIS_URL = env.text("REDIS_URL")
BROKER_SOCKET = RUNTIME_DIR / "broker.sock"
CELERY_BROKER_URL = REDIS_URL or f"redis+socket://{BROKER_SOCKET}"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 2,
    "socket_timeout": 30,
    # A broker that is away must not keep a request waiting: its message is only a wake-up.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_PUBLISH_RETRY = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TASK_ROUTES = {"registry.tasks.run_job": {"queue": "transfers"}}
CELERY_BEAT_SCHEDULE = beat_schedule(monitor_seconds=CACHE_MONITOR_INTERVAL_SECONDS)

# What was read, and from where: for the Settings page
CONFIGURATION = tuple(env.readings.values())
SECRET_VALUES = tuple(sorted(env.secrets))

RIGHT_TO_ACT = "registry.change_modelregistry"
"""What an account of the admin needs to do more than look."""

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["homelab.owner.LocalOwnerAuthentication", "homelab.owner.SessionSignIn"],
    "DEFAULT_PERMISSION_CLASSES": ["homelab.owner.MayAct"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "homelab.api.Schema",
    "EXCEPTION_HANDLER": "homelab.api.answer_exception",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Homelab LLM Server",
    "DESCRIPTION": "Models on several drives of one box: what fits where, downloads, and loading on request.",
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "inference.openai.document.add_gateway",
    ],
    "ENUM_NAME_OVERRIDES": {
        "ModelStatusEnum": "registry.models.ModelRegistry.Status",
        "JobStateEnum": "registry.models.Job.State",
        "JobKindEnum": "registry.models.Job.Kind",
        "LoadStatusEnum": ["loaded", "loading", "leaving", "unloaded", "failed"],
    },
}

UNFOLD = {
    "SITE_TITLE": "Homelab LLM Server",
    "SITE_HEADER": "Homelab LLM Server",
    "SITE_SYMBOL": "dns",
    "SITE_URL": "/",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": ["homelab.navigation.stylesheet"],
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "homelab.navigation.icon"}],
    "SIDEBAR": {"show_search": True, "navigation": "homelab.navigation.sidebar"},
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / ".static"
STATICFILES_DIRS = [BASE_DIR / "static"]
_STATIC_IS_COLLECTED = is_collected(STATIC_ROOT, sources=BASE_DIR / "static")
SERVESTATIC_USE_FINDERS = not _STATIC_IS_COLLECTED
SERVESTATIC_AUTOREFRESH = False
STORAGES = storages(is_collected=_STATIC_IS_COLLECTED)
SERVESTATIC_USE_BROTLI = SERVESTATIC_USE_ZSTD = False  # gzip needs no other package, and is near enough

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {name: {"level": "WARNING"} for name in ("httpx2", "httpx", "axes")},
}
