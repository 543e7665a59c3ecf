"""The `google-genai` package, unmodified, through a pool of keys."""

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
