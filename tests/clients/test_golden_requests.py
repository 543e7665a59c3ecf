"""What the golden cases say that Gemini gets, read by the types of Google's own package, which refuse a name they do not know."""

import json
import pathlib

import pytest
from google.genai import types

REQUESTS = pathlib.Path(__file__).parent.parent / "golden" / "request"
FIELDS = {
    "contents": list[types.Content],
    "systemInstruction": types.Content,
    "tools": list[types.Tool],
    "toolConfig": types.ToolConfig,
    "generationConfig": types.GenerationConfig,
    "safetySettings": list[types.SafetySetting],
    "cachedContent": str,
    "serviceTier": str,
}


def bodies(upstream):
    if "batches" in upstream:
        return []
    return upstream.get("bodies") or [upstream.get("body", upstream)]


def cases():
    return sorted(case for case in REQUESTS.iterdir() if (case / "upstream.json").exists())


def read(kind, value):
    """Reads a value by a type that passes nothing over."""
    if isinstance(value, list):
        (kind,) = kind.__args__
        for item in value:
            read(kind, item)
    elif kind is not str:
        assert kind.model_config["extra"] == "forbid"
        kind.model_validate_json(json.dumps(value))


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_requests_have_googles_types(case):
    for body in bodies(json.loads((case / "upstream.json").read_text())):
        # The package writes it there too, but its type of the whole does not know it.
        read(types.ImageConfig, body.get("generationConfig", {}).pop("imageConfig", {}))
        for name, value in body.items():
            read(FIELDS[name], value)


def test_embedding_requests_have_googles_fields():
    batches = [
        request
        for case in cases()
        for batch in json.loads((case / "upstream.json").read_text()).get("batches", [])
        for request in batch["requests"]
    ]
    assert len(batches) > 100
    for request in batches:
        read(types.Content, request.pop("content"))
        assert request.pop("model").startswith("models/")
        types.EmbedContentConfig.model_validate_json(json.dumps(request))
