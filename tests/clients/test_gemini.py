"""Gemini keys: the `google-genai` package, and the `openai` package with a Gemini model, both unmodified."""

import openai
from google import genai
from google.genai import types

from conftest import ACCESS_KEY


def test_native_requests_pass_through(keystorm, upstream):
    key = f"AIza{'0' * 35}"
    keystorm.add(key, apiType="gemini")
    client = genai.Client(api_key=ACCESS_KEY, http_options=types.HttpOptions(base_url=keystorm.url))
    model = "gemini-2.5-flash"
    assert client.models.generate_content(model=model, contents="hi").text == "Hello from the mock."
    chunks = client.models.generate_content_stream(model=model, contents="hi")
    assert "".join(chunk.text for chunk in chunks) == "Hello from the mock."
    assert client.models.count_tokens(model=model, contents="hi").total_tokens == 3
    assert upstream.calls() == {key: 3}, "the client's key never goes up"


def test_an_openai_client_reaches_a_gemini_model(keystorm, upstream):
    good, dead = f"AIza{'1' * 35}", f"AIza{'2' * 35}"
    keystorm.add(good, dead, apiType="gemini")
    upstream.fault(**{dead: "dead"})
    client = openai.OpenAI(base_url=f"{keystorm.url}/v1", api_key=ACCESS_KEY, max_retries=0)
    messages = [{"role": "user", "content": "hi there"}]
    for name in ("gemini-2.5-flash", "gemini/gemini-2.5-flash", "models/gemini-2.5-flash"):
        answer = client.chat.completions.create(model=name, messages=messages)
        assert answer.choices[0].message.content == "You said: hi there"
        assert answer.model == "gemini-2.5-flash", "prefixes are for KeyStorm alone"
    chunks = client.chat.completions.create(model="gemini-2.5-flash", messages=messages, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "You said: hi there"
    assert upstream.calls()[good] == 4 and upstream.calls().get(dead, 0) <= 1
