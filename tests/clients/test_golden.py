"""What the golden cases say that clients get, read by the types of OpenAI's own package: strictly, and field by field."""

import array
import base64
import json
import pathlib

import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
TYPES = {
    "chat.completion": ChatCompletion,
    "chat.completion.chunk": ChatCompletionChunk,
    "text_completion": Completion,
    "list": CreateEmbeddingResponse,
}


def cases(kind):
    return sorted((GOLDEN / kind).iterdir())


def read(answer):
    """The answer as OpenAI's type, which has to hold all of it unchanged."""
    typed = TYPES[answer["object"]].model_validate(answer, strict=True)
    assert json.loads(typed.model_dump_json(exclude_unset=True)) == answer
    return typed


@pytest.mark.parametrize("case", cases("answer"), ids=lambda case: case.name)
def test_answers_have_openais_types(case):
    answer = json.loads((case / "client.json").read_text())
    if "error" in answer:
        assert isinstance(answer["error"], str)
        return
    answer = answer.get("body", answer)
    for embedding in answer["data"] if answer["object"] == "list" else []:
        # As the package itself does before it shows them.
        if isinstance(embedding["embedding"], str):
            embedding["embedding"] = array.array("f", base64.b64decode(embedding["embedding"])).tolist()
    typed = read(answer)
    if isinstance(typed, ChatCompletion):
        for choice in typed.choices:
            calls = choice.message.tool_calls
            assert calls is None or calls
            for call in calls or []:
                assert call.type == "custom" or isinstance(json.loads(call.function.arguments), dict)


@pytest.mark.parametrize("case", cases("stream"), ids=lambda case: case.name)
def test_streams_have_openais_types(case):
    *events, rest = (case / "client.sse").read_text().split("\n\n")
    assert rest == "" and events
    for event in events:
        data = event.removeprefix("data: ")
        if data == "[DONE]":
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            assert set(chunk["error"]) == {"message", "type", "param", "code"}
            continue
        for choice in chunk["choices"]:
            # OpenAI's own chunks of text have it too, though the package's type does not.
            if chunk["object"] == "text_completion" and choice["finish_reason"] is None:
                choice["finish_reason"] = "stop"
            # The package's type of chunks knows no calls with free text, though that of whole answers does.
            for call in choice.get("delta", {}).get("tool_calls", []):
                call["type"] = {"custom": "function"}.get(call["type"], call["type"])
        read(chunk)
