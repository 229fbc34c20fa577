"""What accounts of the admin may do by REST: all may look, and who may change models may do the rest."""

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient
from rest_framework.views import APIView

from tests.routes import all_routes

pytestmark = pytest.mark.django_db
QUESTIONS = {("post", "/api/cache/check"), ("post", "/api/cache/refresh")}


def views() -> Iterator[tuple[str, type[APIView]]]:
    """The path and the class of each view of the API."""
    for path, pattern in all_routes():
        view = getattr(pattern.callback, "cls", object)
        if issubclass(view, APIView):
            yield path, view


ACTS = sorted(
    (method, path)
    for path, view in views()
    for method in ("post", "put", "patch", "delete")
    if hasattr(view, method) and path.startswith(("/api/", "/models"))
)


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", is_staff=True)


def ask(account: User, method: str, path: str) -> tuple[int, str]:
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(account)
    answer = getattr(client, method)(path, {}, format="json")
    return answer.status_code, answer.json()["error"]["code"] if answer.status_code >= 400 else ""


def test_the_list_of_acts_has_them_all() -> None:
    assert {("post", "/api/models"), ("delete", "/api/models/1"), ("post", "/models/load")} <= set(ACTS)
    assert len(ACTS) > 15


@pytest.mark.parametrize(("method", "path"), [act for act in ACTS if act not in QUESTIONS])
def test_who_may_only_look_changes_nothing(ada: User, method: str, path: str) -> None:
    assert ask(ada, method, path) == (403, "permission_denied")


@pytest.mark.parametrize("path", ["/api/models", "/api/jobs", "/api/cache/stats", "/api/cache/clean"])
def test_who_may_only_look_looks(ada: User, path: str) -> None:
    assert ask(ada, "get", path)[0] == 200


def test_a_question_is_no_change(ada: User) -> None:
    assert ask(ada, "post", "/api/cache/check")[0] == 400  # it was read, and something is missing


@pytest.mark.parametrize(("method", "path"), [("patch", "/api/models/1"), ("post", "/models/load")])
def test_who_may_change_models_acts(ada: User, method: str, path: str) -> None:
    ada.user_permissions.add(Permission.objects.get(codename="change_modelregistry"))
    assert ask(User.objects.get(pk=ada.pk), method, path)[0] in {400, 404}
