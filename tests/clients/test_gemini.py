"""Gemini's own dialect: the `google-genai` package, unmodified, passed through with the pool's failover."""

import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from conftest import ACCESS_KEY, call

MODEL = "gemini-2.5-flash"
KEYS = [f"AIza{digit * 35}" for digit in "12"]


@pytest.fixture
def client(keystorm):
    keystorm.add(*KEYS, apiType="gemini")
    return genai.Client(api_key=ACCESS_KEY, http_options=types.HttpOptions(base_url=keystorm.url))


def test_native_requests_pass_through(client, upstream):
    assert client.models.generate_content(model=MODEL, contents="hi").text == "You said: hi"
    chunks = client.models.generate_content_stream(model=MODEL, contents="hi")
    assert "".join(chunk.text or "" for chunk in chunks) == "You said: hi"
    assert client.models.count_tokens(model=MODEL, contents="hi").total_tokens == 3
    assert sum(upstream.calls().values()) == 3 and set(upstream.calls()) <= set(KEYS), "the client's key never goes up"


def test_both_forms_of_the_credential(client, keystorm):
    body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    path = f"/v1beta/models/{MODEL}:generateContent"
    for url, headers in (
        (f"{keystorm.url}{path}?key={ACCESS_KEY}", {}),
        (f"{keystorm.url}{path}", {"x-goog-api-key": ACCESS_KEY}),
        (f"{keystorm.url}{path}", {"authorization": f"Bearer {ACCESS_KEY}"}),
    ):
        status, _, answer = call("POST", url, body, headers)
        assert status == 200 and answer["candidates"][0]["content"]["parts"][0]["text"] == "You said: hi"
    # Without alt=sse a stream is one JSON array.
    status, _, answer = call("POST", f"{keystorm.url}/v1beta/models/{MODEL}:streamGenerateContent", body, {"x-goog-api-key": ACCESS_KEY})
    assert status == 200 and isinstance(answer, list)


def test_functions_are_called(client):
    asked = []

    def weather(city: str) -> str:
        """Tells the weather of a city."""
        asked.append(city)
        return f"sun in {city}"

    config = types.GenerateContentConfig(tools=[weather])
    answer = client.models.generate_content(model="gemini-3-flash-preview", contents='call:weather({"city":"Rome"})', config=config)
    assert asked == ["Rome"] and "sun in Rome" in answer.text


def test_structured_output_and_embeddings(client):
    class Recipe(BaseModel):
        name: str
        minutes: int

    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Recipe)
    assert client.models.generate_content(model=MODEL, contents="a recipe", config=config).parsed == Recipe(name="text", minutes=1)
    embedded = client.models.embed_content(model="gemini-embedding-001", contents=["a", "b"], config=types.EmbedContentConfig(output_dimensionality=8))
    assert [len(one.values) for one in embedded.embeddings] == [8, 8]


def test_models_are_listed_natively(client):
    names = [model.name for model in client.models.list()]
    assert f"models/{MODEL}" in names
    assert client.models.get(model=MODEL).name == f"models/{MODEL}"


@pytest.mark.parametrize("group", ["", "/team"])
def test_a_file_is_uploaded_through_the_pool_and_stays_with_its_key(client, keystorm, upstream, group, tmp_path):
    keystorm.add(*[f"AIza{digit * 35}" for digit in "345"], apiType="gemini", group=group.strip("/"))
    if group:
        client = genai.Client(api_key=ACCESS_KEY, http_options=types.HttpOptions(base_url=f"{keystorm.url}{group}"))
    path = tmp_path / "notes.txt"
    # Two pieces: the second comes without a credential too.
    path.write_bytes(b"x" * (9 * 1024 * 1024))
    uploaded = client.files.upload(file=path)
    assert uploaded.size_bytes == path.stat().st_size and uploaded.state == types.FileState.ACTIVE
    assert client.files.get(name=uploaded.name).uri == uploaded.uri
    assert len(upstream.calls()) == 1, "one key has seen all of it"
    parts = [types.Part.from_uri(file_uri=uploaded.uri, mime_type="text/plain"), types.Part(text="hi")]
    assert client.models.generate_content(model=MODEL, contents=parts).text == "You said: hi"


def test_the_url_of_an_upload_is_good_for_nothing_else(client, keystorm):
    begin = {"x-goog-api-key": ACCESS_KEY, "x-goog-upload-protocol": "resumable", "x-goog-upload-command": "start"}
    _, headers, _ = call("POST", f"{keystorm.url}/upload/v1beta/files", {"file": {}}, begin)
    url = {name.lower(): value for name, value in headers.items()}["x-goog-upload-url"]
    assert url.startswith(f"{keystorm.url}/upload/v1beta/files?upload_id=")
    assert ACCESS_KEY not in url
    finish = {"x-goog-upload-command": "upload, finalize", "x-goog-upload-offset": "0"}
    assert call("POST", url, {}, finish)[0] == 200
    assert call("POST", url.replace("upload_id=file-0", "upload_id=file-1"), {}, finish)[0] == 401
    assert call("POST", url.split("&upload_token")[0], {}, finish)[0] == 401
    query = url.split("?")[1]
    assert call("GET", f"{keystorm.url}/v1beta/files/file-0?{query}")[0] == 401
    assert call("POST", f"{keystorm.url}/v1beta/models/{MODEL}:generateContent?{query}", {})[0] == 401


def test_failover_and_errors_in_googles_shape(client, upstream):
    upstream.fault(**{KEYS[0]: "limited"})
    for _ in range(6):
        assert client.models.generate_content(model=MODEL, contents="hi").text == "You said: hi"
    assert upstream.calls().get(KEYS[0], 0) <= 1
    with pytest.raises(errors.ClientError) as wrong:
        client.models.generate_content(model=MODEL, contents=[types.Content(role="nobody", parts=[types.Part(text="x")])])
    assert wrong.value.code == 400 and wrong.value.status == "INVALID_ARGUMENT"
    with pytest.raises(errors.ClientError) as unknown:
        client.models.generate_content(model="gemini-9-none", contents="hi")
    assert unknown.value.code == 404
    upstream.fault(**{KEYS[1]: "dead"})
    with pytest.raises(errors.APIError) as nobody:
        client.models.generate_content(model=MODEL, contents="hi")
    assert nobody.value.code == 429 and nobody.value.status == "RESOURCE_EXHAUSTED"
    assert not any(key in str(nobody.value) for key in KEYS)
