"""The `openai` package, unmodified, through a pool of keys."""

import concurrent.futures
import urllib.request

import openai
import pytest

from conftest import ACCESS_KEY

GOOD = "sk-good-0000000000000001"
LIMITED = "sk-limited-00000000000002"
DEAD = "sk-dead-000000000000000003"
HELLO = [{"role": "user", "content": "hello there"}]


def client(keystorm, key=ACCESS_KEY, path="/v1"):
    return openai.OpenAI(base_url=f"{keystorm.url}{path}", api_key=key, max_retries=0)


def chat(keystorm, **more):
    return client(keystorm).chat.completions.create(model="mock-large", messages=HELLO, **more)


def test_a_chat_a_stream_and_the_models(keystorm):
    keystorm.add(GOOD)
    answer = chat(keystorm)
    assert answer.choices[0].message.content == "You said: hello there"
    assert answer.usage.total_tokens == 14
    chunks = list(chat(keystorm, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "You said: hello there"
    assert chunks[-1].usage.total_tokens == 14
    models = client(keystorm).models
    assert [model.id for model in models.list()] == ["mock-large", "mock-small"]
    assert models.retrieve("mock-small").id == "mock-small"
    assert client(keystorm).embeddings.create(model="mock-embed", input="x").data[0].embedding == [0.6, 0.8]


def test_the_client_never_notices_a_key_that_fails(keystorm, upstream):
    keystorm.add(GOOD, LIMITED, DEAD)
    for _ in range(12):
        assert chat(keystorm).choices[0].message.content == "You said: hello there"
    # Each bad key was asked once, and then no more.
    calls = upstream.calls()
    assert calls.get(LIMITED, 0) <= 1 and calls.get(DEAD, 0) <= 1
    assert calls[GOOD] == 12


def test_one_of_three_keys_starts_to_be_rate_limited(keystorm, upstream):
    keys = [f"sk-ok-00000000000000000{number}" for number in range(3)]
    keystorm.add(*keys)
    for _ in range(10):
        chat(keystorm)
    upstream.fault(**{keys[0].replace("-", "_"): "limited"})
    before = upstream.calls().get(keys[0], 0)
    for _ in range(20):
        assert chat(keystorm).choices[0].message.content == "You said: hello there"
        assert list(chat(keystorm, stream=True))[-1].choices[0].finish_reason == "stop"
    assert upstream.calls().get(keys[0], 0) <= before + 1


def test_many_at_once(keystorm, upstream):
    keystorm.add(*[f"sk-many-0000000000000000{number:02}" for number in range(20)])
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: chat(keystorm).choices[0].message.content, range(200)))
    assert answers == ["You said: hello there"] * 200
    assert sum(upstream.calls().values()) == 200


def test_errors_have_their_classes(keystorm):
    with pytest.raises(openai.AuthenticationError) as refused:
        client(keystorm, key="wrong").models.list()
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.InternalServerError) as no_keys:
        chat(keystorm)
    assert no_keys.value.code == "no_available_keys"
    keystorm.add(LIMITED)
    with pytest.raises(openai.RateLimitError) as limited:
        chat(keystorm)
    assert int(limited.value.response.headers["retry-after"]) in range(1, 31)
    keystorm.add(GOOD)
    with pytest.raises(openai.BadRequestError) as wrong:
        client(keystorm).chat.completions.create(model="mock-large", messages=[])
    assert wrong.value.param == "messages"
    with pytest.raises(openai.NotFoundError):
        client(keystorm, path="/nowhere/at/all").models.list()


def test_a_group_and_a_path_without_v1(keystorm):
    keystorm.add(GOOD, group="team")
    for path in ("/team/v1", "/team"):
        answer = client(keystorm, path=path).chat.completions.create(model="mock-large", messages=HELLO)
        assert answer.choices[0].message.content == "You said: hello there"
    with pytest.raises(openai.InternalServerError):
        chat(keystorm)


def test_other_routes_pass_through_whole(keystorm):
    keystorm.add(GOOD)
    sent = bytes(range(256)) * 4096
    request = urllib.request.Request(f"{keystorm.url}/v1/files", data=sent, method="POST", headers={"authorization": f"Bearer {ACCESS_KEY}", "content-type": "application/octet-stream"})
    with urllib.request.urlopen(request, timeout=30) as got:
        assert got.read() == sent
