"""`/login`, for people on other devices."""

from csp.constants import NONE, SELF
from csp.decorators import csp_replace
from django.contrib.auth import views
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpResponse
from django.utils.decorators import method_decorator

from access.doorman import SESSION_KEY
from access.forms import SignInForm

# Anybody can see this page, so it does without scripts and without the admin theme's exceptions.
_NARROW = {"default-src": [NONE], "script-src": [NONE], "style-src": [SELF], "img-src": [SELF], "connect-src": [NONE]}


@method_decorator(csp_replace(_NARROW), name="dispatch")
class LoginView(views.LoginView):
    template_name = "access/login.html"
    authentication_form = SignInForm

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        answer = super().form_valid(form)
        if key := form.cleaned_data["key"]:
            self.request.session[SESSION_KEY] = key.partition(".")[0]
        return answer
