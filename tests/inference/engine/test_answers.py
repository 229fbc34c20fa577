"""The answers of a real engine, as OpenAI's own client and as raw JSON see them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: TID253
from openai import OpenAI
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: TID253

from tests.inference.engine.conftest import DEVICE, Engine, never_end, start_engine, user

PROMPT = "The captain"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 40}


def generate_with_transformers(folder: Path, *, prompt: str, tokens: int) -> str:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    asked = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        output = model.generate(**asked, max_new_tokens=tokens, do_sample=False)
    return str(tokenizer.decode(output[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))


def test_health_tells_what_is_loaded(engine: Engine, generate_engine: Engine) -> None:
    health = engine.client.get("/health").json()
    assert (health["status"], health["model"]) == ("ready", "tiny")
    assert (health["backend"], health["backend_reason"], health["parallel_requests"]) == ("batching", "", 8)
    assert (health["context_length"], health["device"], health["dtype"]) == (512, DEVICE, "float32")
    assert health["weights_bytes"] == pytest.approx(4 * health["parameters"], rel=0.001)
    assert health["kv_tokens"] == 8 * 512
    assert health["memory"][DEVICE]["weights_bytes"] == health["weights_bytes"]
    assert health["memory"][DEVICE]["kv_bytes"] > 4096 * 7 * 2 * 128 * 4
    assert set(health["stage_seconds"]) == {"importing", "reading", "warming"}
    assert health["load_seconds"] == pytest.approx(sum(health["stage_seconds"].values()), abs=0.01)
    other = generate_engine.client.get("/health").json()
    assert (other["backend"], other["parallel_requests"], other["kv_tokens"]) == ("generate", 1, 0)
    assert "--backend generate" in other["backend_reason"]
    assert other["memory"] == {DEVICE: {"weights_bytes": health["weights_bytes"], "kv_bytes": 0}}


@pytest.mark.parametrize("text", ["Hello", "The captain repairs the oldest map.", "naïve 🙂"])
def test_greedy_answers_are_those_of_transformers(
    engine: Engine, generate_engine: Engine, model_folder: Path, text: str
) -> None:
    chat = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    wanted = generate_with_transformers(model_folder, prompt=chat, tokens=120)
    for each in (engine, generate_engine):
        answer = each.chat(text, temperature=0, max_tokens=120).json()
        assert answer["choices"][0]["message"]["content"] == wanted
    wanted = generate_with_transformers(model_folder, prompt=text, tokens=120)
    for each in (engine, generate_engine):
        answer = each.post("/v1/completions", prompt=text, temperature=0, max_tokens=120).json()
        assert answer["choices"][0]["text"] == wanted


def test_both_backends_sample_the_same(engine: Engine, generate_engine: Engine) -> None:
    for asked in (
        {"temperature": 1.0, "seed": 3, "logprobs": 2},
        {"temperature": 0.8, "seed": 4, "top_p": 0.9, "top_k": 40, "presence_penalty": 0.5, "n": 2},
    ):
        first, second = (
            each.post("/v1/completions", prompt="The sea", max_tokens=20, **asked).json()["choices"]
            for each in (engine, generate_engine)
        )
        assert [choice["text"] for choice in first] == [choice["text"] for choice in second]
        if "logprobs" in asked:
            assert first[0]["logprobs"]["token_logprobs"] == pytest.approx(
                second[0]["logprobs"]["token_logprobs"], abs=1e-3
            )


def test_a_chat_has_every_field_of_openai(openai: OpenAI) -> None:
    answer = openai.chat.completions.create(model="my-name", messages=user("Hello"), temperature=0, max_tokens=7)
    assert (answer.object, answer.model) == ("chat.completion", "my-name")
    assert answer.id.startswith("chatcmpl-")
    assert answer.choices[0].message.role == "assistant"
    assert (answer.choices[0].finish_reason, answer.choices[0].logprobs) == ("length", None)
    assert answer.usage and answer.usage.completion_tokens == 7
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 7


def test_a_completion_has_every_field_of_openai(openai: OpenAI) -> None:
    answer = openai.completions.create(model="tiny", prompt="The sea", temperature=0, max_tokens=5, logprobs=2)
    choice = answer.choices[0]
    assert (answer.object, choice.finish_reason) == ("text_completion", "length")
    assert choice.logprobs and choice.logprobs.tokens and choice.logprobs.token_logprobs
    assert "".join(choice.logprobs.tokens) == choice.text
    assert choice.logprobs.text_offset == [len("".join(choice.logprobs.tokens[:n])) for n in range(5)]


def test_a_streamed_chat_adds_up_to_the_plain_one(openai: OpenAI) -> None:
    plain = openai.chat.completions.create(model="tiny", messages=user("Hello"), **GREEDY)
    chunks = list(openai.chat.completions.create(model="tiny", messages=user("Hello"), stream=True, **GREEDY))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == plain.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "length"
    assert len({chunk.id for chunk in chunks}) == 1


def test_chunks_follow_openai_to_the_letter(engine: Engine) -> None:
    *events, last = engine.stream("/v1/chat/completions", messages=user("Hello"), temperature=0, max_tokens=4)
    chunks = [json.loads(event) for event in events]
    assert last == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all(set(chunk["choices"][0]["delta"]) == {"content"} for chunk in chunks[1:-1])
    assert chunks[-1]["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert not any("usage" in chunk for chunk in chunks)


@pytest.mark.parametrize(
    ("path", "asked"), [("/v1/chat/completions", {"messages": user("Hello")}), ("/v1/completions", {"prompt": "Hello"})]
)
def test_the_usage_chunk_comes_only_if_asked_for(engine: Engine, path: str, asked: dict[str, Any]) -> None:
    options = {"stream_options": {"include_usage": True}}
    *events, _ = engine.stream(path, **asked, **options, temperature=0, max_tokens=4)
    chunks = [json.loads(event) for event in events]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 4
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_a_stop_string_across_tokens_is_cut(engine: Engine) -> None:
    whole = engine.chat("Hello", **GREEDY).json()["choices"][0]["message"]["content"]
    stop = whole[7:13]
    start = whole.index(stop)
    for value in (stop, [stop, "never said"]):
        choice = engine.chat("Hello", stop=value, **GREEDY).json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (whole[:start], "stop")
    *events, _ = engine.stream("/v1/chat/completions", messages=user("Hello"), stop=stop, **GREEDY)
    pieces = [json.loads(event)["choices"][0]["delta"].get("content", "") for event in events]
    assert "".join(pieces) == whole[:start]


def test_an_end_token_ends_the_answer(model_folder: Path, copied_folder: Path) -> None:
    """The end token of the copy is one that the model is known to say."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    asked = tokenizer("Hello", return_tensors="pt")
    ids = model.generate(**asked, max_new_tokens=8, do_sample=False)[0, asked["input_ids"].shape[1] :].tolist()
    path = copied_folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [2, ids[5]]}))
    end = ids.index(ids[5])
    with start_engine(copied_folder, "--context-length", "100") as engine:
        answer = engine.post("/v1/completions", prompt="Hello", temperature=0).json()
        assert engine.client.get("/health").json()["context_length"] == 100
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["text"] == tokenizer.decode(ids[:end])
    assert answer["usage"]["completion_tokens"] == end + 1


@pytest.mark.parametrize("limit", [{}, {"max_tokens": 100_000}])
@pytest.mark.parametrize("backend", ["auto", "generate"])
def test_without_a_limit_or_with_one_beyond_it_an_answer_fills_the_context(
    copied_folder: Path, backend: str, limit: dict[str, int]
) -> None:
    with start_engine(never_end(copied_folder), "--context-length", "100", "--backend", backend) as engine:
        answer = engine.post("/v1/completions", prompt="The sea", temperature=0, **limit).json()
    assert answer["usage"]["total_tokens"] == 100
    assert answer["usage"]["completion_tokens"] == 100 - answer["usage"]["prompt_tokens"] > 90
    assert answer["choices"][0]["finish_reason"] == "length"


def test_a_limit_of_zero_gives_nothing(engine: Engine) -> None:
    answer = engine.chat("Hello", max_tokens=0).json()
    assert (answer["choices"][0]["message"]["content"], answer["usage"]["completion_tokens"]) == ("", 0)


def test_the_same_seed_says_the_same_and_another_something_else(engine: Engine) -> None:
    def say(seed: int) -> str:
        asked = {"temperature": 1.0, "max_tokens": 20, "seed": seed}
        return str(engine.chat("Hello", **asked).json()["choices"][0]["message"]["content"])

    first = say(1)
    other = say(2)
    assert say(1) == first != other


def test_n_choices_differ_and_are_counted_together(openai: OpenAI) -> None:
    answer = openai.chat.completions.create(model="tiny", messages=user("Hello"), n=3, max_tokens=6, seed=4)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    assert answer.usage and answer.usage.completion_tokens <= 18


def test_streamed_choices_have_their_index_and_an_end_each(openai: OpenAI) -> None:
    plain = openai.chat.completions.create(model="tiny", messages=user("Hello"), n=2, max_tokens=6, seed=4)
    texts = {0: "", 1: ""}
    ends: list[int] = []
    chunks = openai.chat.completions.create(
        model="tiny", messages=user("Hello"), n=2, max_tokens=6, seed=4, stream=True
    )
    for chunk in chunks:
        choice = chunk.choices[0]
        texts[choice.index] += choice.delta.content or ""
        ends += [choice.index] if choice.finish_reason else []
    assert list(texts.values()) == [choice.message.content for choice in plain.choices]
    assert sorted(ends) == [0, 1]


def test_choices_of_a_stream_come_as_they_are_made(engine: Engine) -> None:
    asked = {"prompt": "Hello", "n": 3, "max_tokens": 12, "seed": 4, "temperature": 1.0}
    *events, _ = engine.stream("/v1/completions", **asked)
    indexes = [json.loads(event)["choices"][0]["index"] for event in events]
    assert set(indexes[:8]) == {0, 1, 2}


@pytest.mark.parametrize("penalty", ["repetition_penalty", "presence_penalty", "frequency_penalty"])
def test_a_penalty_changes_a_greedy_answer(engine: Engine, penalty: str) -> None:
    def say(**asked: float) -> str:
        answer = engine.post("/v1/completions", prompt=PROMPT, temperature=0, max_tokens=120, **asked)
        return str(answer.json()["choices"][0]["text"])

    neutral = 1.0 if penalty == "repetition_penalty" else 0.0
    assert say() == say(**{penalty: neutral}) != say(**{penalty: 2.0})


def test_logprobs_are_natural_logarithms_of_the_models_own_probabilities(openai: OpenAI) -> None:
    answer = openai.chat.completions.create(
        model="tiny", messages=user("Hello"), logprobs=True, top_logprobs=3, temperature=0, max_tokens=12
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs and logprobs.content
    for token in logprobs.content:
        assert token.logprob == token.top_logprobs[0].logprob < 0
        assert len(token.top_logprobs) == 3
    content = b"".join(bytes(token.bytes or []) for token in logprobs.content if "<|" not in token.token)
    assert content.decode(errors="replace") == answer.choices[0].message.content


def test_streamed_logprobs_are_those_of_the_plain_answer(engine: Engine) -> None:
    asked = {"messages": user("Hello"), "logprobs": True, "top_logprobs": 1} | GREEDY
    plain = engine.post("/v1/chat/completions", **asked).json()["choices"][0]["logprobs"]["content"]
    *events, _ = engine.stream("/v1/chat/completions", **asked)
    found = [json.loads(event)["choices"][0]["logprobs"] for event in events]
    tokens = [token for each in found if each for token in each["content"]]
    assert [token["token"] for token in tokens] == [token["token"] for token in plain]
    assert len(tokens) == GREEDY["max_tokens"]


def test_logprobs_of_a_stop_string_are_cut_with_it(engine: Engine) -> None:
    whole = engine.chat("Hello", **GREEDY).json()["choices"][0]["message"]["content"]
    answer = engine.chat("Hello", stop=whole[7:13], logprobs=True, **GREEDY).json()["choices"][0]
    shown = "".join(token["token"] for token in answer["logprobs"]["content"])
    assert shown.startswith(answer["message"]["content"])
    assert whole[7:13] not in shown
