"""Chat templates are programs of strangers, and prompts can be as long as anybody likes."""

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer  # noqa: TID253

from inference.engine import prompts
from inference.engine.backend import RunnerFacts
from inference.engine.bodies import Asked, BadRequest, read_chat, read_completion
from inference.engine.deadline import Overran, run_within
from inference.engine.prompts import encode_prompt
from tests.inference.engine.conftest import never_end, start_engine, user, wait_until

GB = 10**9
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def tokenizer(model_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(model_folder)


def ask(text: str = "Hello") -> Asked:
    return read_chat({"messages": user(text)}, model="tiny")


def encode(asked: Asked, *, tokenizer: Any, template: Any = None, context_length: int = 512) -> tuple[int, ...]:
    if template is not None:
        tokenizer.chat_template = template
    facts = RunnerFacts("batching", context_length, parallel_requests=1, words=2048)
    return encode_prompt(asked, tokenizer=tokenizer, facts=facts)


def refuse(asked: Asked, **how: Any) -> BadRequest:
    with pytest.raises(BadRequest) as refused:
        encode(asked, **how)
    return refused.value


def spin() -> None:
    while True:
        pass


def swell() -> None:
    kept = [bytearray(10**6)]
    while True:
        kept.append(bytearray(b"x") * 10**6)


@pytest.mark.parametrize(("call", "reason"), [(spin, "ran for more than 0.2 s"), (swell, "took more than 0.3 GB")])
def test_what_does_not_end_is_ended(call: Callable[[], None], reason: str) -> None:
    seconds = 0.2 if call is spin else 60
    for _ in range(3):
        with pytest.raises(Overran, match=reason):
            run_within(call, seconds=seconds, growth_bytes=3 * GB // 10)
    assert run_within(lambda: sum(range(10**6)), seconds=60, growth_bytes=GB) == sum(range(10**6))


def test_an_end_in_the_last_moment_is_one_or_the_other_and_nothing_is_left_behind() -> None:
    """Results that come just before and just after the time is over; nothing interrupts what comes later."""

    def work(*, seconds: float) -> str:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass
        return "done"

    outcomes = []
    for number in range(30):
        try:
            outcomes.append(run_within(partial(work, seconds=0.04 + 0.004 * number), seconds=0.05, growth_bytes=GB))
        except Overran as error:
            outcomes.append(str(error))
        work(seconds=0.001)
    assert (outcomes[0], outcomes[-1]) == ("done", "ran for more than 0.05 s")
    assert set(outcomes) == {outcomes[0], outcomes[-1]}
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "deadline"])
    work(seconds=1.5)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (ENDLESS, "ran for more than"),
        (
            "{% set ns = namespace(x='abcdefgh' * 1000 * 1000) %}{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "",
        ),
        ("{{ 'a'|center(10000000000000) }}", "refuses"),
        ("{{ range(1000000000) }}", "refuses"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "refuses"),
        ("{{ 1 // 0 }}", "refuses"),
        ("{{ undefined.attribute }}", "refuses"),
        ("{{ [].__class__.__base__.__subclasses__() }}", "refuses"),
    ],
)
def test_a_poisonous_template_costs_its_own_request_only(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, template: str, reason: str
) -> None:
    monkeypatch.setattr(prompts, "_TEMPLATE_SECONDS", 1.0)
    monkeypatch.setattr(prompts, "_TEMPLATE_BYTES", GB // 4)
    refused = refuse(ask(), tokenizer=tokenizer, template=template)
    assert (refused.code, refused.param) == ("chat_template_error", "messages")
    assert reason in str(refused)
    assert encode(ask(), tokenizer=tokenizer, template="{{ messages[0].content }}")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ 9 ** 9 ** 9 ** 9 }}", "raises to a power (line 1)"),
        ("{{ 7 }}\n{% if false %}{{ (messages|length) ** 9 }}{% endif %}", "raises to a power (line 2)"),
        ("{% set ns = namespace(x=9) %}{% for a in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}", "multiplies"),
        ("{{ 'a' * 10000000000 }}", "multiplies what may be huge"),
        ("{{ [0] * messages|length }}", "multiplies what may be huge"),
        ("{{ 5|round(-100000000) }}", "rounds to an unknown number of digits"),
        ("{{ 5|round(precision=messages|length) }}", "rounds to an unknown number of digits"),
        ("{% generation %}{{ 2 ** 3 }}{% endgeneration %}", "raises to a power"),
        ({"default": "{{ 2 ** 3 }}", "tool_use": "x"}, "raises to a power"),
    ],
)
def test_a_template_that_nobody_could_stop_is_not_run(tokenizer: Any, template: Any, reason: str) -> None:
    """One operation on huge numbers lets no other thread do anything until it is done."""
    started = time.monotonic()
    refused = refuse(ask(), tokenizer=tokenizer, template=template)
    assert time.monotonic() - started < 1
    assert (refused.code, refused.param) == ("chat_template_error", "messages")
    assert reason in str(refused)
    assert "Send a `prompt` to /v1/completions." in str(refused)
    assert encode(read_completion({"prompt": "Hello"}, model="tiny"), tokenizer=tokenizer)


NOSY = [
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as x %}",
    "{% extends 'secret' %}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ messages.__class__ }}{{ messages|attr('__class__')|attr('__base__') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__globals__['__builtins__']['open']('/etc/passwd').read() }}",
    "{{ namespace.__init__.__builtins__ }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{{ messages.append(1) }}",
    "{{ config }}{{ request.environ }}{{ lipsum.__globals__ }}",
]


@pytest.mark.parametrize("template", NOSY)
def test_no_template_reads_a_file_or_gets_hold_of_python(tokenizer: Any, template: str) -> None:
    """It costs its request, or says nothing worth knowing."""
    try:
        said = tokenizer.decode(encode(ask(), tokenizer=tokenizer, template=f"said:{template}"))
    except BadRequest as refused:
        assert refused.code == "chat_template_error"
        said = str(refused)
    assert not [word for word in ("root:", "<class", "<function", "<module", "uid=", "built-in") if word in said], said


@pytest.mark.parametrize(
    "template",
    [
        "{{ '=' * 40 }}{{ '  ' * messages|length }}{{ loop.index0 * 2 if loop else 3 }}",
        "{{ (1.23456|round(2)) ~ (1.5|round(method='floor')) }}",
        "{% for m in messages %}{% if m.role == 'x' %}{% continue %}{% endif %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    ],
)
def test_what_templates_usually_do_is_done(tokenizer: Any, template: str) -> None:
    assert encode(ask(), tokenizer=tokenizer, template=template)


def test_a_very_long_prompt_is_refused_without_reading_all_of_it(tokenizer: Any) -> None:
    asked = read_completion({"prompt": "word " * 10**6}, model="tiny")
    started = time.monotonic()
    refused = refuse(asked, tokenizer=tokenizer)
    assert time.monotonic() - started < 1
    assert (refused.code, refused.param) == ("context_length_exceeded", "prompt")
    assert "more than" in str(refused)


def test_a_long_text_of_few_tokens_is_not_refused(tokenizer: Any) -> None:
    """A beginning is tried, and then all."""
    word = tokenizer.decode([max(tokenizer.get_vocab().values(), key=lambda each: len(tokenizer.decode([each])))])
    text = word * 40
    ids = tokenizer(text)["input_ids"]
    assert len(text) > 8 * (len(ids) + 1)
    asked = read_completion({"prompt": text}, model="tiny")
    assert list(encode(asked, tokenizer=tokenizer, context_length=len(ids) + 1)) == ids


def test_answers_go_on_while_a_template_runs_and_later_chats_are_answered(copied_folder: Path) -> None:
    (copied_folder / "chat_template.jinja").write_text(
        "{% if messages[0].content == 'poison' %}" + ENDLESS + "{% endif %}{{ messages[0].content }}"
    )
    refused: list[Any] = []
    with start_engine(never_end(copied_folder)) as engine:
        poison = threading.Thread(target=lambda: refused.append(engine.chat("poison")))
        asked = {"prompt": "The sea", "stream": True, "max_tokens": 500}
        with engine.client.stream("POST", "/v1/completions", json=asked) as response:
            lines = response.iter_lines()
            next(lines)
            poison.start()
            during = [line for line in lines if line and poison.is_alive()]
        poison.join(timeout=60)
        assert len(during) > 10
        assert (refused[0].status_code, refused[0].json()["error"]["code"]) == (400, "chat_template_error")
        assert "ran for more than 10 s" in refused[0].json()["error"]["message"]
        assert engine.chat("Hello", max_tokens=3).status_code == 200
