"""`/v1` in the OpenAPI document: no views of DRF answer there, so drf-spectacular is told what does."""

from typing import Any

from homelab.api import ERROR_ANSWERS
from inference.openai.schema import MAX_STOPS, NUMBERS, ROLES, WHOLE_NUMBERS

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_EVENT: Json = {"type": "object", "properties": {"data": _TEXT}, "required": ["data"]}
_STREAM: Json = {"text/event-stream": {"schema": _EVENT}}


def add_gateway(result: Json, **_: Any) -> Json:
    """A postprocessing hook of drf-spectacular."""
    result["paths"] |= _paths()
    result["components"]["schemas"] |= _schemas()
    return result


def _paths() -> Json:
    name = {"in": "path", "name": "model", "required": True, "schema": _TEXT}
    return {
        "/v1/chat/completions": {
            "post": _operation("post_v1_chat_completions", answer="ChatCompletion", asks="ChatRequest")
        },
        "/v1/completions": {
            "post": _operation("post_v1_completions", answer="TextCompletion", asks="CompletionRequest")
        },
        "/v1/models": {"get": _operation("get_v1_models", answer="ServableModelList")},
        "/v1/models/{model}": {
            "get": _operation("get_v1_models_by_model", answer="ServableModel") | {"parameters": [name]}
        },
    }


def _operation(operation_id: str, *, answer: str, asks: str = "") -> Json:
    done = {"description": "", "content": {"application/json": {"schema": _ref(answer)}} | (_STREAM if asks else {})}
    refused = {"application/json": {"schema": _ref("OpenAIError")}}
    errors = {code: {"description": words, "content": refused} for code, words in ERROR_ANSWERS.items()}
    body = {"requestBody": {"required": True, "content": {"application/json": {"schema": _ref(asks)}}}} if asks else {}
    return {"operationId": operation_id, "tags": ["v1"], "security": [{}], **body, "responses": {"200": done, **errors}}


def _schemas() -> Json:
    content = {"nullable": True, "oneOf": [_TEXT, {"type": "array", "items": _ref("ContentPart")}]}
    message = {"role": {"type": "string", "enum": list(ROLES)}, "content": content}
    chat = {"messages": {"type": "array", "minItems": 1, "items": _ref("ChatMessage")}}
    error = {"message": _TEXT, "type": _TEXT, "param": _or_null(_TEXT), "code": _or_null(_TEXT)}
    return {
        "ContentPart": _object({"type": {"type": "string", "enum": ["text", "input_text"]}, "text": _TEXT}),
        "ChatMessage": _object(message, required=["role"]),
        "ChatRequest": _object({"model": _NAME, **chat, **_OPTIONS}, required=["model", "messages"]),
        "CompletionRequest": _object({"model": _NAME, "prompt": _NAME, **_OPTIONS}, required=["model", "prompt"]),
        "ChatCompletion": _completion("chat.completion"),
        "TextCompletion": _completion("text_completion"),
        "ServableModel": _object(_SERVABLE, required=["id", "object", "status"]),
        "ServableModelList": _object({"object": _TEXT, "data": {"type": "array", "items": _ref("ServableModel")}}),
        "OpenAIError": _object({"error": _object(error)}),
    }


def _completion(kind: str) -> Json:
    figures = {name: {"type": "integer"} for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    choices = {"type": "array", "items": {"type": "object", "additionalProperties": {}}}
    named = {"id": _TEXT, "object": {"type": "string", "enum": [kind]}, "created": {"type": "integer"}, "model": _TEXT}
    return _object({**named, "choices": choices, "usage": _object(figures)})


def _object(properties: Json, *, required: list[str] | None = None) -> Json:
    """All of its fields are required, unless it is said which."""
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: Json) -> Json:
    return schema | {"nullable": True}


def _whole(minimum: int, maximum: int) -> Json:
    return {"type": "integer", "minimum": minimum, "maximum": maximum, "nullable": True}


def _number(minimum: float, maximum: float) -> Json:
    return {"type": "number", "minimum": minimum, "maximum": maximum, "nullable": True}


_NAME: Json = {"type": "string", "minLength": 1}
_STOPS: Json = {"type": "array", "maxItems": MAX_STOPS, "items": _NAME}
_SERVABLE: Json = {
    "id": _TEXT,
    "object": {"type": "string", "enum": ["model"]},
    "created": {"type": "integer"},
    "owned_by": _TEXT,
    "context_length": {"type": "integer", "nullable": True},
    "max_model_len": {"type": "integer", "nullable": True},
    "status": {"type": "object", "additionalProperties": {}},
}
_OPTIONS: Json = {
    **{name: _whole(*limits) for name, limits in WHOLE_NUMBERS.items()},
    **{name: _number(*limits) for name, limits in NUMBERS.items()},
    "stop": {"nullable": True, "oneOf": [_NAME, _STOPS]},
    "stream": {"type": "boolean", "nullable": True},
    "logprobs": {"nullable": True, "oneOf": [{"type": "boolean"}, _whole(*WHOLE_NUMBERS["top_logprobs"])]},
    "keep_alive": {"description": "How long it stays in memory: 10m, seconds, 0 or -1.", "type": "string"},
}
