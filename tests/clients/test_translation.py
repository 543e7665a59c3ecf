"""Gemini's models through the unmodified `openai` package, LangChain and raw bytes: nobody can tell that Gemini answers."""

import base64
import json
import struct
import subprocess
import time

import openai
import pytest
from openai.types import CompletionUsage, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from conftest import ACCESS_KEY, ROOT, eventually

KEYS = [f"AIza{digit * 35}" for digit in "123"]
HELLO = [{"role": "user", "content": "hi there"}]
OLD, NEW = "gemini-2.5-flash", "gemini-3-flash-preview"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
def pool(keystorm):
    keystorm.add(*KEYS, apiType="gemini")
    return keystorm


@pytest.fixture
def client(pool):
    return openai.OpenAI(base_url=f"{pool.url}/v1", api_key=ACCESS_KEY, max_retries=0)


def function(name, **properties):
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": f"Tells the {name}.", "parameters": schema, "strict": True}}


WEATHER = function("weather", city={"type": "string"})
CLOCK = function("clock", zone={"type": ["string", "null"], "enum": ["UTC", None]})


def raw(pool, body):
    """The answer's bytes as they are on the wire."""
    status, headers, answer = pool.client("POST", "/v1/chat/completions", body)
    return status, headers, answer


def events(text):
    assert text.endswith("data: [DONE]\n\n")
    return [json.loads(event.removeprefix("data: ")) for event in text.split("\n\n")[:-2]]


def test_an_answer_fits_the_types_to_the_letter(pool):
    status, headers, answer = raw(pool, {"model": OLD, "messages": HELLO})
    assert status == 200, answer
    parsed = ChatCompletion.model_validate(answer, strict=True)
    assert parsed.choices[0].message.content == "You said: hi there"
    assert parsed.choices[0].finish_reason == "stop" and parsed.model == OLD
    usage = parsed.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 7, 10)
    assert usage.completion_tokens_details.reasoning_tokens == 2 and usage.prompt_tokens_details.cached_tokens == 1
    lower = {name.lower(): value for name, value in headers.items()}
    assert int(lower["content-length"]) > 0 and lower["x-keystorm-attempts"] == "1"


def test_a_stream_fits_the_types_and_keeps_its_order(pool):
    status, headers, text = raw(pool, {"model": OLD, "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}})
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    chunks = [ChatCompletionChunk.model_validate(event, strict=True) for event in events(text)]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "You said: hi there"
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] == "stop" and reasons[:-1] == [None] * (len(reasons) - 1)
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 10
    assert all(event["usage"] is None for event in events(text)[:-1])
    _, _, plain = raw(pool, {"model": OLD, "messages": HELLO, "stream": True})
    assert all(event["choices"] and "usage" not in event for event in events(plain))


@pytest.mark.parametrize("model", [OLD, NEW])
@pytest.mark.parametrize("stream", [False, True])
def test_a_tools_loop_of_two_rounds(client, model, stream):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": 'call:weather({"city":"Oslo"})'}]
    for expected in ("Oslo", "Bergen"):
        message = complete(client, stream, model=model, messages=messages, tools=[WEATHER, CLOCK])
        (call,) = message["tool_calls"]
        assert call["function"]["name"] == "weather" and json.loads(call["function"]["arguments"]) == {"city": expected}
        messages += [message, {"role": "tool", "tool_call_id": call["id"], "content": f"rain in {expected}"}]
        final = complete(client, stream, model=model, messages=messages, tools=[WEATHER, CLOCK])
        assert final["content"] == f'Results: weather -> {{"output":"rain in {expected}"}}'
        messages += [final, {"role": "user", "content": 'And call:weather({"city":"Bergen"})'}]


@pytest.mark.parametrize("keeps_unknown_fields", [True, False])
def test_parallel_calls_and_their_results_in_any_order(client, keeps_unknown_fields):
    asked = 'call:weather({"city":"Oslo"}) call:clock({"zone":"UTC"}) call:weather({"city":"Rome"})'
    messages = [{"role": "user", "content": asked}]
    message = complete(client, False, model=NEW, messages=messages, tools=[WEATHER, CLOCK])
    calls = message["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["weather", "clock", "weather"]
    assert len({call["id"] for call in calls}) == 3
    if not keeps_unknown_fields:
        for call in calls:
            call.pop("extra_content", None)
        message.pop("extra_content", None)
    results = [{"role": "tool", "tool_call_id": call["id"], "content": json.dumps({"number": number})} for number, call in enumerate(calls)]
    messages += [message, *reversed(results)]
    final = complete(client, True, model=NEW, messages=messages, tools=[WEATHER, CLOCK])
    assert final["content"] == 'Results: weather -> {"number":0}; clock -> {"number":1}; weather -> {"number":2}'


def test_a_forced_call_and_a_forbidden_one(client):
    forced = client.chat.completions.create(model=OLD, messages=HELLO, tools=[WEATHER, CLOCK], tool_choice={"type": "function", "function": {"name": "clock"}})
    assert forced.choices[0].finish_reason == "tool_calls"
    assert forced.choices[0].message.tool_calls[0].function.name == "clock"
    asked = [{"role": "user", "content": "call:clock({})"}]
    none = client.chat.completions.create(model=OLD, messages=asked, tools=[CLOCK], tool_choice="none")
    assert none.choices[0].message.tool_calls is None and none.choices[0].finish_reason == "stop"


class Step(BaseModel):
    explanation: str
    output: float


class Solution(BaseModel):
    steps: list[Step]
    answer: int
    sure: bool | None


@pytest.mark.parametrize("model", [OLD, NEW])
def test_structured_output_is_parsed(client, model):
    answer = client.beta.chat.completions.parse(model=model, messages=HELLO, response_format=Solution)
    assert answer.choices[0].message.parsed == Solution(steps=[Step(explanation="text", output=1.5)], answer=1, sure=True)


def test_an_image_as_a_data_url(client):
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}}]
    answer = client.chat.completions.create(model=OLD, messages=[{"role": "user", "content": content}])
    assert answer.choices[0].message.content == f"[image/png, {len(PIXEL)} base64 digits] You said: What is this?"


def test_thinking_is_shown_when_asked_for(client):
    extra = {"extra_body": {"google": {"thinking_config": {"include_thoughts": True}}}}
    answer = client.chat.completions.create(model=OLD, messages=HELLO, reasoning_effort="low", extra_body=extra)
    assert answer.choices[0].message.reasoning_content == "Let me think."
    assert answer.choices[0].message.content == "You said: hi there"
    for effort in ("none", "minimal", "low", "medium", "high"):
        for model in (OLD, NEW):
            client.chat.completions.create(model=model, messages=HELLO, reasoning_effort=effort)


def test_what_gemini_does_not_know_never_reaches_it(client):
    answer = client.chat.completions.create(
        model=OLD, messages=HELLO, temperature=0.5, top_p=0.9, max_completion_tokens=100, stop=["X", ""], seed=2**40,
        presence_penalty=0.5, frequency_penalty=0.1, logit_bias={"1": 2}, logprobs=True, top_logprobs=2, user="u", store=True,
        metadata={"a": "b"}, service_tier="flex", prompt_cache_key="k", verbosity="low", parallel_tool_calls=False, tools=[WEATHER],
    )
    assert answer.choices[0].message.content == "You said: hi there"


def test_several_choices(client):
    answer = client.chat.completions.create(model=OLD, messages=HELLO, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.message.content for choice in answer.choices} == {"You said: hi there"}
    assert answer.usage.completion_tokens == 21
    texts = {}
    for chunk in client.chat.completions.create(model=OLD, messages=HELLO, n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    assert texts == {0: "You said: hi there", 1: "You said: hi there"}


def test_blocked_prompts_and_answers_that_are_cut(client):
    blocked = client.chat.completions.create(model=OLD, messages=[{"role": "user", "content": "block this"}])
    assert blocked.choices[0].finish_reason == "content_filter" and blocked.choices[0].message.content is None
    reasons = [chunk.choices[0].finish_reason for chunk in client.chat.completions.create(model=OLD, messages=[{"role": "user", "content": "block this"}], stream=True)]
    assert reasons[-1] == "content_filter"
    cut = client.chat.completions.create(model=OLD, messages=[{"role": "user", "content": "a long one"}], max_tokens=1)
    assert cut.choices[0].finish_reason == "length"


def test_embeddings_in_both_encodings(pool, client):
    model = "gemini-embedding-001"
    as_floats = client.embeddings.create(model=model, input=["a", "bc"], encoding_format="float")
    default = client.embeddings.create(model=model, input=["a", "bc"])
    assert [one.index for one in default.data] == [0, 1]
    for one, other in zip(as_floats.data, default.data):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert sum(value * value for value in one.embedding) == pytest.approx(1)
    assert len(client.embeddings.create(model=model, input="x", dimensions=16).data[0].embedding) == 16
    assert len(client.embeddings.create(model=model, input=["x"] * 250).data) == 250
    _, _, answer = pool.client("POST", "/v1/embeddings", {"model": model, "input": "x", "encoding_format": "base64"})
    packed = base64.b64decode(answer["data"][0]["embedding"])
    assert len(struct.unpack(f"<{len(packed) // 4}f", packed)) == 4
    _, _, answer = pool.client("POST", "/v1/embeddings", {"model": model, "input": "x"})
    CreateEmbeddingResponse.model_validate(answer, strict=True)


def test_models_are_listed_in_openais_form(pool, client):
    names = [model.id for model in client.models.list()]
    assert OLD in names and NEW in names
    _, _, answer = pool.client("GET", f"/v1/models/{OLD}")
    assert Model.model_validate(answer, strict=True).owned_by == "google"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gemini-9-none")


def test_legacy_completions(client):
    answer = client.completions.create(model=OLD, prompt="hi there")
    assert answer.choices[0].text == "You said: hi there" and answer.object == "text_completion"
    assert CompletionUsage.model_validate(answer.usage.model_dump()).total_tokens == 10
    several = client.completions.create(model=OLD, prompt=["a", "b"], echo=True)
    assert [choice.text for choice in several.choices] == ["aYou said: a", "bYou said: b"]
    chunks = client.completions.create(model=OLD, prompt="hi there", stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "You said: hi there"


def test_errors_have_their_classes(pool, client, upstream):
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=OLD, messages=[{"role": "user", "content": [{"type": "hologram"}]}])
    assert wrong.value.param == "messages[0].content[0].type" and wrong.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gemini-9-none", messages=HELLO)
    assert unknown.value.code == "model_not_found"
    upstream.fault(**{key: "limited" for key in KEYS[:2]})
    upstream.fault(**{KEYS[2]: "dead"})
    with pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(model=OLD, messages=HELLO)
    assert 1 <= int(limited.value.response.headers["retry-after"]) <= 21
    assert not any(key in str(limited.value.body) for key in KEYS)


def test_one_key_of_three_fails_and_no_client_notices(pool, client, upstream):
    upstream.fault(**{KEYS[0]: "limited", KEYS[1]: "dead"})
    for stream in (False, True) * 5:
        assert complete(client, stream, model=OLD, messages=HELLO)["content"] == "You said: hi there"
    calls = upstream.calls()
    assert calls.get(KEYS[0], 0) <= 1 and calls.get(KEYS[1], 0) <= 1 and calls[KEYS[2]] == 10


def test_a_stream_that_breaks_off_is_an_error_and_never_done(pool, client, upstream):
    upstream.fault(**{key: "cut" for key in KEYS})
    got = []
    with pytest.raises(openai.APIError):
        for chunk in client.chat.completions.create(model=OLD, messages=HELLO, stream=True):
            got.append(chunk.choices[0])
    assert "".join(choice.delta.content or "" for choice in got) == "You said: hi there"
    assert not any(choice.finish_reason for choice in got)
    _, _, text = raw(pool, {"model": OLD, "messages": HELLO, "stream": True})
    assert "[DONE]" not in text and text.count('"error"') == 1


def test_tokens_of_translated_answers_are_counted(pool, client):
    for stream in (False, True):
        complete(client, stream, model=OLD, messages=HELLO)

    def counted():
        models = pool.admin("GET", "/api/stats?range=1h")[2]["models"]
        return [(model["requests"], model["prompt_tokens"], model["completion_tokens"]) for model in models if model["model"] == OLD]

    eventually(lambda: counted() and counted()[0][0] >= 2)
    assert counted() == [(2, 6, 14)]


def test_langchain_calls_tools(pool):
    # It wants another version of the openai package, so it lives in an environment of its own.
    python = ROOT / "target" / "venv-frameworks" / "bin" / "python"
    script = ROOT / "tests" / "frameworks" / "langchain_tools.py"
    done = subprocess.run([python, script, pool.url, ACCESS_KEY, NEW], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "tools loop, usage and stream are right"


def complete(client, stream, **more):
    """A whole message, streamed or not, as a client puts it together."""
    if not stream:
        return client.chat.completions.create(**more).choices[0].message.model_dump(exclude_none=True)
    message = {"role": "assistant", "content": None}
    for chunk in client.chat.completions.create(stream=True, **more):
        delta = chunk.choices[0].delta
        if delta.content:
            message["content"] = (message["content"] or "") + delta.content
        for call in delta.tool_calls or []:
            calls = message.setdefault("tool_calls", [])
            if call.index == len(calls):
                calls.append(call.model_dump(exclude_none=True, exclude={"index"}))
            else:
                calls[call.index]["function"]["arguments"] += call.function.arguments
    return message
