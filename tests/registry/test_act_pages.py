"""What can be done to models shows its plan first: from the list for many, and from a model's page."""

from pathlib import Path

import pytest
from django.contrib.auth.models import Permission

from cachemgr.models import Cache
from cachemgr.monitor import measure_caches
from registry.acts import Line, shortage, sum_up
from registry.models import Job, ModelRegistry
from tests.factories import loadable_files, make_cached_repo, write_hub_repo

pytestmark = pytest.mark.django_db
MODELS = "/admin/registry/modelregistry/"


@pytest.fixture
def two(caches) -> list[ModelRegistry]:
    for name in ("a", "b"):
        make_cached_repo(Path(caches.primary.path), f"org/{name}", files=loadable_files(weights=2_000_000))
    measure_caches()
    return list(ModelRegistry.objects.order_by("model_name"))


def act(name: str, *models: ModelRegistry, **more: str) -> str:
    query = [f"model={model.pk}" for model in models] + [f"{key}={value}" for key, value in more.items()]
    return f"{MODELS}act/{name}/?{'&'.join(query)}"


def text_of(answer) -> str:
    assert answer.status_code == 200, answer.content
    return " ".join(answer.content.decode().split())


def said(answer) -> list[str]:
    return [str(message) for message in answer.context["messages"]]


def test_a_bulk_move_shows_each_plan_and_the_sum_and_waits_for_a_yes(browser, two, caches) -> None:
    wish = {"action": "move_to_secondary", "_selected_action": [model.pk for model in two]}
    page = text_of(browser.post(MODELS, wish))
    assert f"{caches.primary.path} → {caches.secondary.path}" in page and "Move 2 models" in page
    assert page.count("<dt>Files</dt><dd>3</dd>") == 2 and page.count("<dt>Size</dt><dd>2.0 MB</dd>") == 2
    total = page[page.index("hl-total") :]
    assert "<dt>Models</dt><dd>2</dd>" in total and "<dt>Size</dt><dd>4.0 MB</dd>" in total
    assert "<dt>Time</dt><dd>under a second</dd>" in total and "<dt>Free there afterwards</dt>" in total
    assert "Both are on one drive" in page and not Job.objects.exists()
    answer = browser.post(MODELS, wish | {"sure": "yes"}, follow=True)
    goes = f"goes to {caches.secondary.path}. It stays usable meanwhile."
    assert said(answer) == [f"a {goes}", f"b {goes}"]
    assert Job.objects.filter(kind="move").count() == 2


def test_sums_are_of_what_can_be_done_and_say_what_is_not_known(two) -> None:
    first, second = two
    lines = [
        Line(model=first, file_count=1000, size_bytes=10**9, seconds=60, landing_bytes=10**9, free_bytes=4 * 10**9),
        Line(model=second, file_count=200, size_bytes=10**9, landing_bytes=10**9, free_bytes=4 * 10**9),
        Line(model=second, size_bytes=5, problem="It is away."),
    ]
    assert dict(sum_up(lines)) == {
        "Models": "2",
        "Files": "1,200",
        "Size": "2.0 GB",
        "Time": "about 60 s, or more",
        "Free there afterwards": "2.0 GB",
    }
    assert sum_up(lines[1:]) == () and dict(lines[0].facts)["Time"] == "about 60 s"


def test_what_cannot_be_moved_says_why_and_the_others_can(browser, two) -> None:
    ModelRegistry.objects.filter(pk=two[0].pk).update(status="missing")
    page = text_of(browser.get(act("move", *two, to="secondary")))
    assert "a is missing: only a model whose files are whole and at hand can be moved." in page
    assert "what can be" in page and "hl-total" not in page


def test_where_each_fits_but_not_all_of_them_it_says_so(two) -> None:
    lines = [Line(model=model, landing_bytes=6, free_bytes=10, size_bytes=6) for model in two]
    assert "Together they take 12 B, and 10 B are free there" in shortage(lines)
    assert shortage(lines[:1]) == ""


def test_a_move_that_does_not_fit_is_refused_before_it_begins_with_what_helps(browser, two) -> None:
    Cache.objects.filter(location="secondary").update(limit_bytes=1_000)
    page = text_of(browser.get(act("move", two[0])))
    assert "do not fit: the secondary cache" in page and "hl-problem" in page
    assert '<button class="hl-button hl-primary">' not in page


def test_the_page_of_a_move_offers_every_place_and_asks_for_a_folder(browser, two, tmp_path) -> None:
    page = text_of(browser.get(act("move", two[0])))
    assert "Move to the secondary cache?" in page and "to=primary" in page and "to=custom" in page
    page = text_of(browser.get(act("move", two[0], to="custom")))
    assert 'name="path"' in page and "hl-plan" not in page
    (tmp_path / "usb").mkdir()
    page = text_of(browser.get(act("move", two[0], to="custom", path=str(tmp_path / "usb"))))
    assert f"→ {tmp_path / 'usb'}" in page and "is no cache yet" in page
    assert "allowed folder" in text_of(browser.get(act("move", two[0], to="custom", path="/etc")))
    assert "one of primary, secondary, custom is wanted" in text_of(browser.get(act("move", two[0], to="tertiary")))


def test_a_model_without_files_gets_another_place_at_once(browser, caches) -> None:
    measure_caches()
    model = ModelRegistry.objects.create(model_name="m", hf_path="org/m", estimated_size_mb=1, model_size_mb=1)
    assert "nothing moves" in text_of(browser.get(act("move", model)))
    assert "no file had to move" in said(browser.post(act("move", model), {"sure": "yes"}, follow=True))[0]
    assert ModelRegistry.objects.get().cache_location == "secondary" and not Job.objects.exists()


def test_verify_says_how_much_it_reads_and_for_how_long(browser, two) -> None:
    Cache.objects.update(read_bytes_per_second=100_000)
    page = text_of(browser.get(act("verify", two[0])))
    assert "<dt>Size</dt><dd>2.0 MB</dd>" in page and "<dt>Time</dt><dd>about 20 s</dd>" in page
    assert not Job.objects.exists()
    answer = browser.post(act("verify", two[0]), {"sure": "yes"}, follow=True)
    assert said(answer) == ["All files of a are read again."]
    assert answer.redirect_chain[-1][0] == f"{MODELS}{two[0].pk}/change/"
    assert Job.objects.get().kind == "verify"


def test_repair_names_what_it_would_fetch(browser, two, hub, hub_repos, caches) -> None:
    files = {path.name: path.read_bytes() for path in Path(caches.primary.path).glob("*--a/snapshots/*/*")}
    write_hub_repo(hub_repos, "org/a", files=files)
    commit = hub.repos.find("org/a").commit
    repo = Path(caches.primary.path) / "models--org--a"
    (repo / "snapshots" / ("a" * 40)).rename(repo / "snapshots" / commit)
    ModelRegistry.objects.filter(model_name="a").update(revision=commit)
    page = text_of(browser.get(act("repair", two[0])))
    assert "Fetch what is bad or missing?" in page and "Nothing is known to be bad or missing" in page
    (repo / "blobs").joinpath(*[p.name for p in (repo / "blobs").iterdir() if len(p.name) == 64]).unlink()
    page = text_of(browser.get(act("repair", two[0])))
    assert "2.0 MB come from the Hub: model.safetensors." in page


def test_repair_of_what_never_came_says_why_not(browser, caches) -> None:
    model = ModelRegistry.objects.create(model_name="m", hf_path="org/m")
    assert "was never downloaded" in text_of(browser.get(act("repair", model)))


def test_a_pin_is_set_and_taken_back_for_one_and_for_many(browser, two) -> None:
    answer = browser.post(act("pin", two[0]), {"sure": "yes"}, follow=True)
    assert said(answer) == ["a is pinned: it is never unloaded or moved by itself."]
    browser.post(MODELS, {"action": "pin_selected", "_selected_action": [model.pk for model in two]})
    assert ModelRegistry.objects.filter(pinned=True).count() == 2
    browser.post(MODELS, {"action": "unpin_selected", "_selected_action": [two[0].pk]})
    assert ModelRegistry.objects.get(pinned=True).model_name == "b"


def test_remove_from_the_models_page_asks_and_comes_back_to_the_list(browser, two) -> None:
    page = text_of(browser.get(act("remove", two[0])))
    assert "What becomes of the files?" in page and "can come back" in page
    answer = browser.post(act("remove", two[0]), {"files": "trash"}, follow=True)
    assert said(answer) == ["a is in the trash."] and answer.redirect_chain[-1][0] == MODELS


@pytest.mark.parametrize("name", ["load", "unload"])
def test_where_no_engines_run_the_page_says_where_they_do(browser, two, name) -> None:
    (words,) = said(browser.post(act(name, two[0]), {"sure": "yes"}, follow=True))
    assert "Start it with script/server" in words


def test_the_plan_of_a_load_says_from_where_and_how_long(browser, two, caches) -> None:
    Cache.objects.update(read_bytes_per_second=100_000)
    page = text_of(browser.get(act("load", two[0])))
    assert caches.primary.path in page and "<dt>Time</dt><dd>about 20 s</dd>" in page


@pytest.mark.parametrize("query", ["", "?model=", "?model=x", "?model=999999999", "?model=1e9", f"?model={'9' * 30}"])
def test_no_model_is_no_page(browser, two, query) -> None:
    assert browser.get(f"{MODELS}act/move/{query}").status_code == 404


def test_an_unknown_act_is_no_page(browser, two) -> None:
    assert browser.get(act("explode", two[0])).status_code == 404


def test_too_many_at_a_time_are_refused_with_a_sentence(browser, caches) -> None:
    rows = [ModelRegistry(model_name=f"m{at}", hf_path=f"org/m{at}") for at in range(51)]
    ModelRegistry.objects.bulk_create(rows)
    keys = list(ModelRegistry.objects.values_list("pk", flat=True))
    for action in ("move_to_secondary", "remove_selected"):
        wish = {"action": action, "_selected_action": keys}
        assert "50 models at a time" in said(browser.post(MODELS, wish, follow=True))[0]
    assert "50 models at a time" in said(browser.get(act("remove", *ModelRegistry.objects.all()), follow=True))[0]


def test_who_may_only_look_can_do_nothing(client, django_user_model, two) -> None:
    guest = django_user_model.objects.create_user("guest", is_staff=True)
    guest.user_permissions.add(Permission.objects.get(codename="view_modelregistry"))
    client.force_login(guest)
    page = client.get(f"{MODELS}{two[0].pk}/change/").content.decode()
    assert "Lives in" in page and "hl-acts" not in page
    for name in ("move", "pin", "remove", "load"):
        assert client.get(act(name, two[0])).status_code == 403
        assert client.post(act(name, two[0]), {"sure": "yes", "files": "trash"}).status_code == 403
    client.post(MODELS, {"action": "pin_selected", "_selected_action": [two[0].pk]})
    assert not ModelRegistry.objects.filter(pinned=True).exists() and ModelRegistry.objects.count() == 2
