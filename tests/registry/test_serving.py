"""How a model is served: chosen by PATCH or in the admin, handed to whoever loads it."""

import pytest

from registry import serving
from registry.locating import locate
from registry.models import ModelRegistry
from registry.serving import ServingSettings

PAGE = "/admin/registry/modelregistry/{}/change/"
CHOSEN = {
    "dtype": "bfloat16",
    "device": "cuda:1",
    "quantization": "4bit",
    "context_limit": 4096,
    "parallel_requests": 2,
    "keep_alive": "10m",
    "priority": -5,
    "preload": True,
    "downloads_on_request": True,
}
MEANT = ServingSettings(
    dtype="bfloat16",
    device="cuda:1",
    quantization="4bit",
    context_length=4096,
    parallel_requests=2,
    keep_alive_seconds=600,
    priority=-5,
    preload=True,
    downloads_on_request=True,
)


@pytest.fixture
def row(caches):
    """A model without files: enough to change its settings."""
    return ModelRegistry.objects.create(model_name="m", hf_path="org/m", metadata={"max_position_embeddings": 512})


def patch(api, body):
    return api.patch("/api/models/m", body, format="json")


def chosen_in(answer):
    body = answer.json()
    return {name: body[name] for name in serving.COLUMNS}


def test_a_new_model_leaves_everything_to_the_server(model):
    assert locate(model).serving == ServingSettings()


def test_what_is_chosen_by_patch_is_read_back_and_reaches_whoever_loads_the_model(api, model, caches):
    answer = patch(api, CHOSEN)
    assert answer.status_code == 200
    assert chosen_in(answer) == chosen_in(api.get("/api/models/m")) == CHOSEN
    model.refresh_from_db()
    located = locate(model)
    assert located.serving == MEANT
    assert (located.cache_location, located.cache_path) == ("primary", caches.primary.path)


def test_a_patch_of_one_setting_changes_no_other(api, row):
    patch(api, CHOSEN)
    assert chosen_in(patch(api, {"priority": 3})) == CHOSEN | {"priority": 3}
    assert not api.get("/api/models/m").json()["pinned"]


def test_the_columns_and_their_words_are_one_list():
    columns = {field.name for field in ModelRegistry._meta.get_fields()}
    assert columns.issuperset(serving.COLUMNS) and set(serving.WANTED) == set(serving.COLUMNS) == set(CHOSEN)


WRONG: dict[str, tuple[object, ...]] = {
    "dtype": ("int4", "", None, 16),
    "device": ("gpu", "cuda:16", "cuda:-1", "cuda:1,2", ""),
    "quantization": ("2bit", "none", None, 4),
    "context_limit": (0, 15, -1, 10**7 + 1, 10**30, 4096.5, "many", True, [1]),
    "parallel_requests": (0, 257, -1, "all"),
    "keep_alive": ("soon", "5 m", "5d", None, True, "1" * 17, {"m": 5}),
    "priority": (101, -101, None, "high", 0.5),
    "preload": ("perhaps", None, 2),
    "downloads_on_request": ("perhaps", []),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_what_cannot_be_is_refused_with_the_fields_own_code(api, row, name, value):
    answer = patch(api, {name: value, "pinned": True})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, f"invalid_{name}")
    assert error["message"].startswith(f"{name} is {repr(value)[:40]}, but ")
    assert serving.WANTED[name] in error["message"]
    row.refresh_from_db()
    assert not row.pinned and row.serving_settings == ServingSettings()


def test_several_wrong_settings_are_each_named(api, row):
    fields = patch(api, {"dtype": "x", "priority": "y", "cache_location": "z"}).json()["error"]["details"]["fields"]
    codes = {name: problems[0]["code"] for name, problems in fields.items()}
    assert codes == {"dtype": "invalid_dtype", "priority": "invalid_priority", "cache_location": "invalid_choice"}


@pytest.mark.parametrize(
    ("sent", "kept", "seconds"),
    [
        ("10m", "10m", 600),
        (300, "300", 300),
        (0, "0", 0),
        (-1, "-1", -1),
        ("-1", "-1", -1),
        ("", "", None),
        (0.5, "0.5", 0.5),
    ],
)
def test_a_time_in_memory_is_kept_as_it_was_written(api, row, sent, kept, seconds):
    assert patch(api, {"keep_alive": sent}).json()["keep_alive"] == kept
    row.refresh_from_db()
    assert row.serving_settings.keep_alive_seconds == seconds


def test_an_empty_limit_is_the_models_own(api, row):
    patch(api, CHOSEN)
    answer = patch(api, {"context_limit": None, "parallel_requests": None}).json()
    assert (answer["context_limit"], answer["context_length"], answer["parallel_requests"]) == (None, 512, None)


# In the admin


@pytest.fixture
def page(admin_client, row):
    return PAGE.format(row.pk)


def form_of(model, **values):
    form = {"cache_location": model.cache_location, "cache_path": ""}
    settings = {name: getattr(model, name) for name in serving.COLUMNS} | values
    return form | {name: "" if value is None else value for name, value in settings.items() if value is not False}


def test_the_page_of_a_model_shows_every_setting_with_its_help(admin_client, row, page):
    content = admin_client.get(page).content.decode()
    assert all(f'name="{name}"' in content for name in serving.COLUMNS)
    assert "Spread over all GPUs" in content and "a change counts from its next load" in content


def test_what_is_chosen_in_the_admin_is_saved_and_said_to_count_from_the_next_load(admin_client, row, page):
    answer = admin_client.post(page, form_of(row, **CHOSEN), follow=True)
    row.refresh_from_db()
    assert row.serving_settings == MEANT
    assert "a change counts from its next load" in [
        str(message).rpartition(": ")[2][:-1] for message in answer.context["messages"]
    ]


def test_a_save_that_changes_nothing_says_nothing_about_loads(admin_client, row, page):
    answer = admin_client.post(page, form_of(row), follow=True)
    assert not [message for message in answer.context["messages"] if "next load" in str(message)]


def test_what_cannot_be_is_said_beside_its_field(admin_client, row, page):
    answer = admin_client.post(page, form_of(row, keep_alive="soon", context_limit="3", device="tpu"))
    errors = answer.context["adminform"].form.errors
    assert set(errors) == {"keep_alive", "context_limit", "device"}
    assert "or -1 for ever" in errors["keep_alive"][0]
    row.refresh_from_db()
    assert row.serving_settings == ServingSettings()
