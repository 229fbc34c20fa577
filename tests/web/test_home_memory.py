"""The models in memory on the Home page, of a real pool: who answers leaves only by force."""

import re
from collections.abc import AsyncIterator

import pytest

from inference.pool import EnginePool
from tests.inference.conftest import tiny, tiny_folder  # noqa: F401  (fixtures)
from tests.inference.gateway import Gateway, serving

pytestmark = pytest.mark.django_db(transaction=True)
PART = {"HX-Request": "true"}


@pytest.fixture
async def gateway(tiny) -> AsyncIterator[Gateway]:  # noqa: F811
    async with serving(EnginePool(keep_alive_seconds=-1, max_requests=8)) as running:
        yield running


async def test_a_model_in_memory_is_there_and_leaves_by_its_button_by_force_where_it_answers(gateway) -> None:
    await gateway.pool.load("tiny")
    async with gateway.http() as http:
        page = (await http.get("/")).text
        assert re.search(r"of RAM, idle, stays", page) and 'aria-label="Unload tiny"' in page
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
        asked = {"model": "tiny", "csrfmiddlewaretoken": token}
        async with gateway.pool.use("tiny"):
            busy = (await http.post("/", data=asked, headers=PART)).text
            assert "tiny is answering 1 requests." in busy and "Unload anyway" in busy and "answers 1 request" in busy
            forced = (await http.post("/", data=asked | {"force": "yes"}, headers=PART)).text
        assert "tiny has left memory." in forced and "No model is in memory." in forced
        again = (await http.post("/", data=asked, headers=PART)).text
        assert "tiny was not in memory." in again and "Unload anyway" not in again
        report = (await http.get("/settings/diagnostics")).text
        assert "## In memory\nnothing" in report
        assert (await http.post("/", data={"model": "tiny"}, headers=PART)).status_code == 403
