"""Django's settings, all of them from the environment; docs/reference/settings.md says what each variable means."""

from datetime import timedelta
from pathlib import Path

from django.templatetags.static import static

from . import embedded, env, logs, secret

BASE_DIR = Path(__file__).resolve().parent.parent
env.read_file(BASE_DIR / ".env")
DATA_DIR = BASE_DIR / ".data"

DEBUG = env.boolean("DEBUG", default=False)
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS", [])

_embedded = EMBEDDED_DATABASE = not env.text("DATABASE_URL")
EMBEDDED_DIRECTORY = DATA_DIR / "postgresql"
# With a problem so far, DATABASE_URL may be missing only because .env could not be read.
_starts = _embedded and not env.problems
DATABASE_ADDRESS = embedded.start(EMBEDDED_DIRECTORY) if _starts else env.text("DATABASE_URL")
_database = env.database("DATABASE_URL", default=DATABASE_ADDRESS)
_kept = {"ENGINE": "config.database", "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
DATABASES = {"default": {**(_database or {}), **_kept}}
DATABASE_CONNECT_TIMEOUT_SECONDS = env.integer("DATABASE_CONNECT_TIMEOUT_SECONDS", 5, low=0, high=600)
DATABASE_INTAKE_TIMEOUT_MS = env.integer("DATABASE_INTAKE_TIMEOUT_MS", 4000, low=0, high=600_000)
DATABASE_CONSOLE_TIMEOUT_MS = env.integer("DATABASE_CONSOLE_TIMEOUT_MS", 15_000, low=0, high=3_600_000)
DATABASE_METRICS_TIMEOUT_MS = env.integer("DATABASE_METRICS_TIMEOUT_MS", 8000, low=0, high=600_000)
DATABASE_READINESS_TIMEOUT_MS = env.integer("DATABASE_READINESS_TIMEOUT_MS", 2000, low=0, high=600_000)
DATABASE_WORKER_TIMEOUT_MS = env.integer("DATABASE_WORKER_TIMEOUT_MS", 60_000, low=0, high=3_600_000)
DATABASE_SESSION_LIMITS = env.choice("DATABASE_SESSION_LIMITS", "auto", among=("auto", "always", "never"))
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

SECRET_KEY = env.text("SECRET_KEY")
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS", [])
if not SECRET_KEY:
    if not _embedded:
        env.problem("SECRET_KEY", "Required with DATABASE_URL: at least 50 random characters.")
    SECRET_KEY = secret.kept_in(DATA_DIR / "secret_key") if _starts else "unconfigured"

# --- What Backstop itself is told -------------------------------------------------------------------------
DAY_MS = 86_400_000
CRON_SECRET = env.credential("CRON_SECRET")
N8N_WEBHOOK_URL = env.url("N8N_WEBHOOK_URL", "http://127.0.0.1:5678/webhook")
N8N_API_URL = env.url("N8N_API_URL")
N8N_API_KEY = env.credential("N8N_API_KEY")
N8N_MAX_RETRIES = env.integer("N8N_MAX_RETRIES", 3, low=0, high=1000)
N8N_BASE_DELAY_MS = env.integer("N8N_BASE_DELAY_MS", 1000, low=0, high=DAY_MS)
N8N_MAX_DELAY_MS = env.integer("N8N_MAX_DELAY_MS", 30_000, low=0, high=DAY_MS)
N8N_JITTER_FACTOR = env.decimal("N8N_JITTER_FACTOR", 0.1, low=0.0, high=1.0)
N8N_CIRCUIT_BREAKER_THRESHOLD = env.integer("N8N_CIRCUIT_BREAKER_THRESHOLD", 10, low=1, high=100_000)
N8N_CIRCUIT_BREAKER_WINDOW_MS = env.integer("N8N_CIRCUIT_BREAKER_WINDOW_MS", 600_000, low=1, high=7 * DAY_MS)
N8N_CIRCUIT_BREAKER_RECOVERY_MS = env.integer("N8N_CIRCUIT_BREAKER_RECOVERY_MS", 300_000, low=1, high=7 * DAY_MS)
N8N_DLQ_TTL_HOURS = env.integer("N8N_DLQ_TTL_HOURS", 24, low=1, high=24 * 3650)
N8N_DLQ_CLEANUP_INTERVAL_MS = env.integer("N8N_DLQ_CLEANUP_INTERVAL_MS", 3_600_000, low=1000, high=30 * DAY_MS)
N8N_DEFAULT_CONCURRENCY = env.integer("N8N_DEFAULT_CONCURRENCY", 5, low=1, high=1000)
N8N_MAX_CONCURRENCY = env.integer("N8N_MAX_CONCURRENCY", 20, low=1, high=1000)
N8N_TIMEOUT_MS = env.integer("N8N_TIMEOUT_MS", 30_000, low=1, high=DAY_MS)
if N8N_BASE_DELAY_MS > N8N_MAX_DELAY_MS:
    env.problem("N8N_BASE_DELAY_MS", f"{N8N_BASE_DELAY_MS} is above N8N_MAX_DELAY_MS ({N8N_MAX_DELAY_MS}).")
if N8N_DEFAULT_CONCURRENCY > N8N_MAX_CONCURRENCY:
    _both = f"{N8N_DEFAULT_CONCURRENCY} is above N8N_MAX_CONCURRENCY ({N8N_MAX_CONCURRENCY})."
    env.problem("N8N_DEFAULT_CONCURRENCY", _both)
STRIPE_WEBHOOK_SECRETS = env.words("STRIPE_WEBHOOK_SECRET", [])
STRIPE_API_KEY = env.credential("STRIPE_API_KEY")
STRIPE_API_URL = env.url("STRIPE_API_URL", "https://api.stripe.com")
STRIPE_MAX_BODY_BYTES = env.integer("STRIPE_MAX_BODY_BYTES", 4 * 1024 * 1024, low=1024, high=64 * 1024 * 1024)
ENVIRONMENT_NAME = env.text("ENVIRONMENT_NAME")
TRUSTED_PROXIES = env.integer("TRUSTED_PROXIES", 0, low=0, high=16)
STRIPE_PAYLOAD_RETENTION_DAYS = env.integer("STRIPE_PAYLOAD_RETENTION_DAYS", 90, low=1, high=36_500)
STRIPE_REPEAT_RETENTION_DAYS = env.integer("STRIPE_REPEAT_RETENTION_DAYS", 90, low=1, high=36_500)
STRIPE_REFUSAL_RETENTION_DAYS = env.integer("STRIPE_REFUSAL_RETENTION_DAYS", 30, low=1, high=36_500)
PURGE_UNDO_DAYS = env.integer("PURGE_UNDO_DAYS", 7, low=0, high=3650)
CRON_RETENTION_DAYS = env.integer("CRON_RETENTION_DAYS", 90, low=1, high=36_500)
DELIVERY_RETENTION_DAYS = env.integer("DELIVERY_RETENTION_DAYS", 90, low=1, high=36_500)
ATTEMPT_RETENTION_DAYS = env.integer("ATTEMPT_RETENTION_DAYS", 90, low=1, high=36_500)
DEAD_LETTER_RETENTION_DAYS = env.integer("DEAD_LETTER_RETENTION_DAYS", 90, low=1, high=36_500)
EXECUTION_RETENTION_DAYS = env.integer("EXECUTION_RETENTION_DAYS", 90, low=1, high=36_500)
EXECUTION_RETRY_RETENTION_DAYS = env.integer("EXECUTION_RETRY_RETENTION_DAYS", 90, low=1, high=36_500)
FAILURE_REPORT_RETENTION_DAYS = env.integer("FAILURE_REPORT_RETENTION_DAYS", 90, low=1, high=36_500)
STRIPE_EVENT_RETENTION_DAYS = env.integer("STRIPE_EVENT_RETENTION_DAYS", 0, low=0, high=36_500)
STRIPE_CLAIM_RETENTION_DAYS = env.integer("STRIPE_CLAIM_RETENTION_DAYS", 400, low=31, high=36_500)
if 0 < STRIPE_EVENT_RETENTION_DAYS < STRIPE_PAYLOAD_RETENTION_DAYS or 0 < STRIPE_EVENT_RETENTION_DAYS < 31:
    env.problem(
        "STRIPE_EVENT_RETENTION_DAYS", "Must be at least 31 and STRIPE_PAYLOAD_RETENTION_DAYS, or 0 for no limit."
    )
MINUTE_FIGURES_RETENTION_DAYS = env.integer("MINUTE_FIGURES_RETENTION_DAYS", 8, low=8, high=400)
HOUR_FIGURES_RETENTION_DAYS = env.integer("HOUR_FIGURES_RETENTION_DAYS", 400, low=31, high=36_500)
FAILURE_GROUP_RETENTION_DAYS = env.integer("FAILURE_GROUP_RETENTION_DAYS", 400, low=1, high=36_500)
OPERATION_RETENTION_DAYS = env.integer("OPERATION_RETENTION_DAYS", 400, low=1, high=36_500)
ENGINE_JOB_RETENTION_DAYS = env.integer("ENGINE_JOB_RETENTION_DAYS", 7, low=1, high=36_500)
SIGN_IN_RETENTION_DAYS = env.integer("SIGN_IN_RETENTION_DAYS", 31, low=31, high=36_500)  # above any lockout
AUDIT_RETENTION_DAYS = env.integer("AUDIT_RETENTION_DAYS", 1100, low=31, high=36_500)
CLEANUP_LOAD = env.decimal("CLEANUP_LOAD", 0.5, low=0.05, high=1.0)
ARCHIVE_FILE_LETTERS = env.integer("ARCHIVE_FILE_LETTERS", 1000, low=1, high=20_000)
ARCHIVE_BACKEND = env.text("ARCHIVE_BACKEND", "django.core.files.storage.FileSystemStorage")
ARCHIVE_DIRECTORY = Path(env.text("ARCHIVE_DIRECTORY") or DATA_DIR / "archive")
ARCHIVE_OPTIONS = env.mapping("ARCHIVE_OPTIONS")
if ARCHIVE_BACKEND == "django.core.files.storage.FileSystemStorage":
    _private = {"file_permissions_mode": 0o600, "directory_permissions_mode": 0o700}
    ARCHIVE_OPTIONS = {"location": ARCHIVE_DIRECTORY, **_private, **ARCHIVE_OPTIONS}
MAX_BODY_BYTES = env.integer("MAX_BODY_BYTES", 16 * 1024 * 1024, low=1024, high=256 * 1024 * 1024)
WORKER_MAX_IN_FLIGHT = env.integer("WORKER_MAX_IN_FLIGHT", 64, low=1, high=1000)
WORKER_OPERATION_THREADS = env.integer("WORKER_OPERATION_THREADS", 2, low=1, high=64)
WORKER_N8N_THREADS = env.integer("WORKER_N8N_THREADS", 8, low=1, high=256)
WEB_THREADS = env.integer("WEB_THREADS", 4, low=1, high=256)
WEB_MAX_CONNECTIONS = env.integer("WEB_MAX_CONNECTIONS", 4096, low=16, high=65_536)
WEB_HEADER_SECONDS = env.integer("WEB_HEADER_SECONDS", 30, low=1, high=60)
WEB_HEADER_BYTES = env.integer("WEB_HEADER_BYTES", 16 * 1024, low=8192, high=1024 * 1024)
WEB_BODY_SECONDS = env.integer("WEB_BODY_SECONDS", 60, low=1, high=3600)
WEB_BODY_IDLE_SECONDS = env.integer("WEB_BODY_IDLE_SECONDS", 10, low=1, high=600)
_room = max(64 * 1024 * 1024, 4 * MAX_BODY_BYTES, 4 * STRIPE_MAX_BODY_BYTES)
WEB_BUFFERED_BYTES = env.integer("WEB_BUFFERED_BYTES", _room, low=1024 * 1024, high=64 * 1024**3)
WEB_QUEUE_LENGTH = env.integer("WEB_QUEUE_LENGTH", 512, low=1, high=65_536)
WEB_QUEUE_SECONDS = env.integer("WEB_QUEUE_SECONDS", 5, low=1, high=600)
WEB_SEND_SECONDS = env.integer("WEB_SEND_SECONDS", 10, low=1, high=600)
WEB_STREAM_SECONDS = env.integer("WEB_STREAM_SECONDS", 60, low=1, high=3600)
if 3 * max(MAX_BODY_BYTES, STRIPE_MAX_BODY_BYTES) > WEB_BUFFERED_BYTES:
    env.problem("WEB_BUFFERED_BYTES", "Must be at least three times MAX_BODY_BYTES and STRIPE_MAX_BODY_BYTES.")
ACCESS_LOG = env.boolean("ACCESS_LOG", default=False)
TRACES = env.traces()
METRICS_TOKEN = env.credential("METRICS_TOKEN")
METRICS_TENANT_LABEL = env.boolean("METRICS_TENANT_LABEL", default=False)

# --- Alerts, and mail -------------------------------------------------------------------------------------
PUBLIC_URL = env.url("PUBLIC_URL")
ALERT_EMAILS = env.addresses("ALERT_EMAILS")
ALERT_WEBHOOK_URL = env.url("ALERT_WEBHOOK_URL", is_base=False)
ALERT_WORKFLOW = env.slug("ALERT_WORKFLOW", r"[a-z0-9][a-z0-9-]{0,62}")
ALERT_RUNBOOK_URL = env.text("ALERT_RUNBOOK_URL", "docs/runbook.md")
ALERT_REPEAT_MINUTES = env.integer("ALERT_REPEAT_MINUTES", 240, low=0, high=43_200)
ALERT_TIMEOUT_SECONDS = env.integer("ALERT_TIMEOUT_SECONDS", 10, low=1, high=30)
ALERT_RETENTION_DAYS = env.integer("ALERT_RETENTION_DAYS", 90, low=1, high=36_500)
ALERT_NOT_PINGED_MINUTES = env.integer("ALERT_NOT_PINGED_MINUTES", 60, low=1, high=527_040)
ALERT_BREAKER_OPEN_LONG_MINUTES = env.integer("ALERT_BREAKER_OPEN_LONG_MINUTES", 60, low=1, high=43_200)
ALERT_BREAKER_FLAPS = env.integer("ALERT_BREAKER_FLAPS", 3, low=1, high=1000)
ALERT_DEAD_LETTERS = env.integer("ALERT_DEAD_LETTERS", 100, low=0, high=10**9)
ALERT_DEAD_LETTERS_GROWTH = env.integer("ALERT_DEAD_LETTERS_GROWTH", 20, low=0, high=10**9)
ALERT_BACKLOG_MINUTES = env.integer("ALERT_BACKLOG_MINUTES", 10, low=1, high=43_200)
ALERT_SUCCESS_PERCENT = env.decimal("ALERT_SUCCESS_PERCENT", 90.0, low=0.0, high=100.0)
ALERT_RETRY_SUCCESS_PERCENT = env.decimal("ALERT_RETRY_SUCCESS_PERCENT", 20.0, low=0.0, high=100.0)
ALERT_STRIPE_REFUSALS = env.integer("ALERT_STRIPE_REFUSALS", 5, low=1, high=10**9)
ALERT_MEMORY_MB = env.integer("ALERT_MEMORY_MB", 512, low=1, high=10**7)
ALERT_CPU_PERCENT = env.decimal("ALERT_CPU_PERCENT", 90.0, low=1.0, high=100_000.0)
_mail = env.mail("EMAIL_URL")
vars().update(_mail)  # Django's own EMAIL_… settings
EMAIL_TIMEOUT = ALERT_TIMEOUT_SECONDS
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text("EMAIL_FROM", "backstop@localhost")
if ALERT_EMAILS and not _mail:
    env.problem("ALERT_EMAILS", "Requires a mail server: set EMAIL_URL (smtp+tls://user:password@host:587).")
CONFIGURATION_PROBLEMS = env.problems

# --- The engine -------------------------------------------------------------------------------------------
# Imported before Procrastinate makes its app: a task that is defined later would be unknown to it.
PROCRASTINATE_AUTODISCOVER_MODULE_NAME = "queue"
PROCRASTINATE_ON_APP_READY = "reliability.queue.connector.install_connector"
PROCRASTINATE_WORKER_DEFAULTS = {
    "concurrency": 200,
    "fetch_job_polling_interval": 2.0,
    "delete_jobs": "successful",
    "shutdown_graceful_timeout": 45,
}

# --- Django -----------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "config.console.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "procrastinate.contrib.django",
    "axes",
    "reliability",
    "scheduling",
]
MIDDLEWARE = [
    "config.measuring.MeasuringMiddleware",
    "config.middleware.HostMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "config.middleware.PagesOnly",  # what follows is for pages alone
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "config.middleware.SessionEndMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
APPEND_SLASH = False
CSRF_FAILURE_VIEW = "reliability.views.csrf_failure"
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
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "config" / "static"]  # before the applications': here Unfold's Alpine is another build
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
    "archive": {"BACKEND": ARCHIVE_BACKEND, "OPTIONS": ARCHIVE_OPTIONS},
}

# --- Security: HTTPS is true where people reach the console over the network, behind TLS ------------------
HTTPS = env.boolean("HTTPS", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "style-src": ["'self'", "'unsafe-inline'"],  # Unfold, HTMX and Chart.js set styles
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

# --- Sessions and signing in ------------------------------------------------------------------------------
SESSION_COOKIE_AGE = 3600 * env.integer("SESSION_HOURS", 12, low=1, high=720)
SESSION_IDLE_SECONDS = 60 * env.integer("SESSION_IDLE_MINUTES", 60, low=0, high=43_200)
SESSION_EXPIRE_AT_BROWSER_CLOSE = env.boolean("SESSION_END_WITH_BROWSER", default=False)
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
AXES_FAILURE_LIMIT = env.integer("SIGN_IN_FAILURE_LIMIT", 5, low=1, high=1000)
AXES_COOLOFF_TIME = timedelta(minutes=env.integer("SIGN_IN_LOCKOUT_MINUTES", 30, low=1, high=43_200))
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]  # both together: a stranger cannot lock an operator out
AXES_LOCKOUT_CALLABLE = "reliability.admin.setup.sign_ins.locked_out"
AXES_CLIENT_IP_CALLABLE = "reliability.admin.setup.sign_ins.address"
AXES_USERNAME_CALLABLE = "reliability.admin.setup.sign_ins.name_of"
AXES_RESET_ON_SUCCESS = AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = AXES_VERBOSE = False

LOG_FORMAT = env.choice("LOG_FORMAT", "text", among=logs.FORMATS)
LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", among=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOGGING_CONFIG = "config.logs.configure"
LOGGING = logs.configuration(level=LOG_LEVEL, kind=LOG_FORMAT)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["reliability.api.common.authentication.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["reliability.api.common.authentication.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["reliability.api.common.parsers.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "reliability.api.common.parsers.AlwaysJSON",
    "DEFAULT_SCHEMA_CLASS": "reliability.api.common.openapi.Schema",
    "DEFAULT_PAGINATION_CLASS": None,
    "EXCEPTION_HANDLER": "reliability.api.common.problems.handle",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
    "DATETIME_FORMAT": "iso-8601",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Backstop",
    "DESCRIPTION": "The reliability control plane for n8n.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
    "ENUM_NAME_OVERRIDES": {
        "AlertState": "reliability.models.AlertState",
        "AlertName": "reliability.api.alerts.serializers.ALERT_NAMES",
        "AlertSeverity": "reliability.api.alerts.serializers.SEVERITIES",
        "DeliveryState": "reliability.models.DeliveryState",
        "OperationState": "reliability.models.OperationState",
        "OperationKind": "reliability.models.OperationKind",
        "BreakerState": "reliability.models.BreakerState",
        "Source": "reliability.models.Source",
        "DeadLetterSource": "reliability.models.DeadLetterSource",
        "DeadLetterStatus": "reliability.models.DeadLetterStatus",
        "ExecutionStatus": "reliability.models.ExecutionStatus",
        "ReportState": "reliability.models.ReportState",
        "OutcomeStatus": "reliability.n8n.callbacks.STATUSES",
        "CronJobState": "scheduling.api.STATES",
        "CronRunResult": "scheduling.models.RunResult",
    },
}
UNFOLD = {
    "SITE_TITLE": "Backstop",
    "SITE_HEADER": "Backstop",
    "SITE_SUBHEADER": "Reliability for n8n",
    "SITE_URL": None,
    "SITE_ICON": lambda _request: static("reliability/icon.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("reliability/icon.svg")},
    ],
    "ENVIRONMENT": "config.navigation.environment",
    "ENVIRONMENT_TITLE_PREFIX": "config.navigation.title_prefix",
    "DASHBOARD_CALLBACK": "reliability.admin.stats.overview.context",
    "SIDEBAR": {"navigation": "config.navigation.sidebar"},
    "COMMAND": {"search_callback": "reliability.admin.common.search.find"},
    "COLORS": {
        # Blue: purple, Unfold's own, is too close to what a warning looks like in the dark.
        "primary": {
            "50": "#eff6ff",
            "100": "#dbeafe",
            "200": "#bfdbfe",
            "300": "#93c5fd",
            "400": "#60a5fa",
            "500": "#3b82f6",
            "600": "#1d5fd6",
            "700": "#1d4ed8",
            "800": "#1e40af",
            "900": "#1e3a8a",
            "950": "#172554",
        },
    },
    "STYLES": [lambda _request: static("reliability/console.css")],
    "SCRIPTS": [
        lambda _request: static("reliability/alpine-csp.js"),
        lambda _request: static("reliability/access.js"),
        lambda _request: static("reliability/console.js"),
        lambda _request: static("reliability/charts.js"),
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
}
