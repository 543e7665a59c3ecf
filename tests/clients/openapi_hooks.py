"""What schemathesis cannot make up from the description alone: endpoints that may be called, models' names, and CSV."""

import schemathesis
from hypothesis import strategies as st

WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)
ENDPOINTS = st.one_of(
    st.just(""),
    st.builds(lambda name, path: f"https://{name}.example.com{path}", WORD, st.sampled_from(["", "/", "/v1", "/openai/v1"])),
)
LINES = st.lists(st.tuples(WORD, st.text("abc ,\"\u7ec4", max_size=20), st.integers(1, 1000)), min_size=1, max_size=5)


def cell(text):
    return '"' + str(text).replace('"', '""') + '"'


def csv(lines):
    rows = [["api_key", "note", "weight"], *[[f"sk-{key}", note, weight] for key, note, weight in lines]]
    return "".join(",".join(map(cell, row)) + "\r\n" for row in rows).encode()


schemathesis.openapi.format("endpoint", ENDPOINTS)
schemathesis.openapi.format("model", st.one_of(st.sampled_from(["mock-large", "gemini-2.5-flash"]), WORD))
schemathesis.openapi.media_type("text/csv", LINES.map(csv))
