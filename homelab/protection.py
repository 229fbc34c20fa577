"""Settings against attacks: what pages may load, failed sign-ins, and which of Django's checks are not for us."""

from datetime import timedelta

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE

__all__ = [
    "AUTHENTICATION_BACKENDS",
    "AXES_CLIENT_IP_CALLABLE",
    "AXES_COOLOFF_TIME",
    "AXES_DISABLE_ACCESS_LOG",
    "AXES_ENABLE_ADMIN",
    "AXES_FAILURE_LIMIT",
    "AXES_LOCKOUT_CALLABLE",
    "AXES_LOCKOUT_PARAMETERS",
    "AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT",
    "AXES_RESET_ON_SUCCESS",
    "AXES_SENSITIVE_PARAMETERS",
    "AXES_VERBOSE",
    "CONTENT_SECURITY_POLICY",
]

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        # Alpine, in the admin theme, evaluates the attributes of its elements.
        "script-src": [SELF, UNSAFE_EVAL],
        # The theme's colours are a <style>; our bars, and Alpine, set the style of elements.
        "style-src": [SELF, UNSAFE_INLINE],
        # Pictures in the style sheets of the theme and of the API page.
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

# Five failed sign-ins from one address, then none for five minutes. Wrong keys are slowed by the gate.
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=5)
AXES_LOCKOUT_PARAMETERS = ["ip_address"]  # by the name as well, a stranger could lock the owner out
AXES_CLIENT_IP_CALLABLE = "access.lockout.client_of"
AXES_LOCKOUT_CALLABLE = "access.lockout.locked_out"
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_SENSITIVE_PARAMETERS = ["username", "key", "csrfmiddlewaretoken"]  # people type passwords as names
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "access.backends.KeyBackend",
]

_NEVER_FOR_US = [
    "security.W008",  # The gate leads http:// to https://: all of it, and never this machine itself.
    "security.W005",  # Other names below ours are not ours to promise HTTPS for,
    "security.W021",  # nor to put on the browsers' lists.
]
# On http://localhost HSTS and Secure cookies would shut the owner out.
_WITHOUT_HTTPS = ["security.W004", "security.W012", "security.W016"]


def silenced_checks(*, https: bool) -> list[str]:
    return _NEVER_FOR_US if https else _NEVER_FOR_US + _WITHOUT_HTTPS
