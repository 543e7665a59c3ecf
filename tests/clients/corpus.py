"""Malformed requests over all routes, the same ones in every run.

Each case is a name, the pieces that go over the wire (bytes, or seconds to wait), and whether the fault is in the HTTP itself:
that one the host answers before the component sees anything, in its own way.
"""

import gzip
import json
import random

from conftest import ACCESS_KEY, ADMIN_KEY

LIMIT = 65_536  # max_body_bytes of the KeyStorm that the corpus is sent to

CHAT = {"model": "mock-large", "messages": [{"role": "user", "content": "hello"}]}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}

CLIENT = [
    ("POST", "/v1/chat/completions", CHAT),
    ("POST", "/chat/completions", CHAT),
    ("POST", "/group/v1/chat/completions", CHAT),
    ("POST", "/v1beta/openai/chat/completions", CHAT),
    ("POST", "/v1/chat/completions", {**CHAT, "model": "gemini-2.5-flash"}),
    ("POST", "/v1/chat/completions", {**CHAT, "model": "gemini-2.5-flash", "stream": True}),
    ("POST", "/v1/completions", {"model": "mock-large", "prompt": "hello"}),
    ("POST", "/v1/completions", {"model": "gemini-2.5-flash", "prompt": "hello"}),
    ("POST", "/v1/embeddings", {"model": "mock-embed", "input": "hello"}),
    ("POST", "/v1/embeddings", {"model": "gemini-embedding-001", "input": "hello"}),
    ("POST", "/v1/responses", {"model": "mock-large", "input": "hello"}),
    ("POST", "/v1beta/models/gemini-2.5-flash:generateContent", GEMINI),
    ("POST", "/v1beta/models/gemini-2.5-flash:streamGenerateContent", GEMINI),
    ("POST", "/v1beta/models/gemini-2.5-flash:countTokens", GEMINI),
    ("POST", "/v1/models/gemini-2.5-flash:generateContent", GEMINI),
]
ADMIN = [
    ("POST", "/api/keys", {"keys": ["sk-corpus-0000000001"], "apiType": "openai", "customEndpoint": "https://api.example.com/v1", "group": "g", "priority": 1, "weight": 1, "note": "n", "project": "p"}),
    ("PATCH", "/api/keys", {"ids": [1], "set": {"enabled": True, "priority": 1, "weight": 1, "group": "g", "note": "n", "project": "p"}}),
    ("DELETE", "/api/keys", {"filter": {"status": "dead", "apiType": "openai", "group": "none", "endpoint": "x", "search": "x"}}),
    ("POST", "/api/keys/check", {"ids": [999_999], "mode": "models", "model": "m", "cursor": "5", "delete_invalid": False}),
    ("POST", "/api/keys/import", [{"api_key": "sk-corpus-0000000002", "apiType": "openai", "group": "g", "priority": 1}]),
    ("PUT", "/api/settings", {"aliases": {"a": "b"}}),
    ("DELETE", "/api/sessions", {"ids": ["x"]}),
    ("POST", "/api/login", {"key": ADMIN_KEY}),
]
READING = [
    "/v1/models",
    "/v1/models/mock-large",
    "/v1beta/models",
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/session",
    "/api/sessions",
    "/api/keys",
    "/api/keys/1/secret",
    "/api/keys/check",
    "/api/keys/export",
    "/api/endpoints",
    "/api/stats",
    "/api/events",
    "/api/route",
    "/api/settings",
    "/api/openapi.json",
    "/api/nothing",
    "/v1/files",
]

BODIES = {
    "empty": b"",
    "blank": b"   \r\n\t ",
    "open": b"{",
    "closed": b"}",
    "list": b"[]",
    "text": b'"text"',
    "null": b"null",
    "number": b"123",
    "true": b"true",
    "nan": b'{"model":NaN,"keys":NaN,"key":NaN}',
    "infinity": b'{"model":Infinity}',
    "no utf-8": b'{"model":"\xff\xfe\xfd","keys":["\xff"],"key":"\xff"}',
    "overlong": b'{"model":"\xc0\xaf"}',
    "utf-16": '{"model":"m"}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "lone surrogate": b'{"model":"\\ud800","keys":["\\ud800"],"key":"\\ud800"}',
    "wrong escape": b'{"model":"\\x41"}',
    "nul": b'{"model":"a\x00b"}',
    "escaped nul": b'{"model":"a\\u0000b","messages":[],"keys":["a\\u0000b"],"key":"\\u0000"}',
    "single quotes": b"{'model':'m'}",
    "trailing comma": b'{"model":"m",}',
    "comment": b'{"model":"m"/* */}',
    "cut in text": b'{"model":"mock-la',
    "cut in escape": b'{"model":"\\u00',
    "cut in list": b'{"messages":[{"role":"user"},',
    "two documents": b'{"model":"m"}{"model":"m"}',
    "garbage behind": b'{"model":"m"} xyz',
    "duplicate": b'{"model":"a","model":"b","keys":["x"],"keys":["y"],"key":"a","key":"b"}',
    "deep lists": b"[" * 20_000,
    "deep closed lists": b"[" * 20_000 + b"]" * 20_000,
    "deep objects": b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
    "deep inside": b'{"model":"m","messages":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "deep keys": b'{"keys":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "huge number": b'{"model":' + b"9" * 5_000 + b"}",
    "huge exponent": b'{"model":1e999999999,"n":1e999999999}',
    "long text": b'"' + b"x" * 60_000 + b'"',
    "long model": b'{"model":"' + b"m" * 60_000 + b'","messages":[]}',
    "long field": b'{"' + b"f" * 60_000 + b'":1}',
    "many fields": b"{" + b",".join(b'"f%d":1' % number for number in range(5_000)) + b"}",
    "many values": b'{"keys":[' + b",".join([b'""'] * 20_000) + b"]}",
    "many ids": b'{"ids":[' + b",".join([b"1"] * 30_000) + b"]}",
    "form": b"model=m&messages=x",
    "multipart": b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--x--\r\n',
    "compressed": gzip.compress(b'{"model":"m"}'),
    "random": random.Random(1).randbytes(4_000),
    "html": b"<html><script>alert(1)</script></html>",
    "sql": b'{"model":"\'; DROP TABLE keys; --","keys":["\'; DROP TABLE keys; --"],"filter":{"search":"%\'; DROP TABLE keys; --"}}',
    "format": b'{"model":"%s%n{0}{{7*7}}${jndi:ldap://x}","messages":[]}',
    "prototype": b'{"__proto__":{"model":"m"},"constructor":1}',
}

WRONG = [None, True, False, 0, 1, -1, 1.5, 1e308, 2**53, 2**63, 2**64, -(2**63) - 1, "", "x", "x" * 3_000, "\u0000", "\u202e\ud83d\ude00", [], [[]], [None], [1], [""], ["x"], {}, {"x": 1}, {"": None}, [[[[[[[[]]]]]]]]]


def request(method, target, body=b"", *, headers=(), key=None, length=True, version="HTTP/1.1"):
    """The bytes of a request. `headers` may name one twice; `length` may be a wrong one."""
    key = key if key is not None else (ADMIN_KEY if target.startswith(("/api/", "/metrics")) else ACCESS_KEY)
    lines = [f"{method} {target} {version}".encode() if isinstance(target, str) else method.encode() + b" " + target + b" " + version.encode()]
    names = {name.lower() for name, _ in headers}
    if "host" not in names:
        lines.append(b"host: localhost")
    if "authorization" not in names and key:
        lines.append(f"authorization: Bearer {key}".encode())
    if "content-type" not in names and body:
        lines.append(b"content-type: application/json")
    if "connection" not in names:
        lines.append(b"connection: close")
    for name, value in headers:
        lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()))
    if length is True and (body or method in ("POST", "PUT", "PATCH", "DELETE")):
        lines.append(b"content-length: %d" % len(body))
    elif length not in (True, None):
        lines.append(f"content-length: {length}".encode())
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def fields(value, path=()):
    """Every field of a request, with the way to it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from fields(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield (*path, number)
            yield from fields(inner, (*path, number))


def replaced(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)
    return copy


MORE_FIELDS = {
    "temperature": 1,
    "top_p": 1,
    "n": 1,
    "max_tokens": 5,
    "max_completion_tokens": 5,
    "stop": ["x"],
    "stream_options": {"include_usage": True},
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": True,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}},
    "reasoning_effort": "low",
    "logprobs": True,
    "top_logprobs": 2,
    "seed": 1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "logit_bias": {"1": 1},
    "user": "u",
    "metadata": {"a": "b"},
    "modalities": ["text"],
    "extra_body": {"google": {"thinking_config": {"thinking_budget": 1}}},
}
RICH = {
    "model": "gemini-2.5-flash",
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}, {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "result"},
    ],
    **MORE_FIELDS,
}
IMAGES = [
    "http://169.254.169.254/latest/meta-data",
    "https://169.254.169.254/",
    "https://[::ffff:169.254.169.254]/a.png",
    "https://2852039166/a.png",
    "https://0xa9fea9fe/a.png",
    "https://0251.0376.0251.0376/a.png",
    "http://localhost/a.png",
    "http://127.0.0.1:1/a.png",
    "https://user:pass@images.example/a.png",
    "https://metadata.google.internal/",
    "http://self.alt/api/keys",
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "//images.example/a.png",
    "data:",
    "data:image/png;base64,%%%",
    "data:text/html;base64,PGI+",
    "data:image/png,notbase64",
    "https://",
    "",
]


def corpus():
    cases = []

    def add(name, *pieces, wire=False):
        cases.append((name, pieces, wire))

    everything = CLIENT + ADMIN
    for method, target, _ in everything:
        for name, body in BODIES.items():
            if len(body) <= LIMIT:
                add(f"{method} {target} body {name}", request(method, target, body))
    # Wrong types in every field.
    for method, target, good in everything:
        for path in fields(good):
            for number, value in enumerate(WRONG):
                # Sixteen of them for the shallow routes, all for those that read their fields themselves.
                if target.startswith("/v1/re") and number % 3:
                    continue
                body = json.dumps(replaced(good, path, value)).encode("utf-8", "surrogatepass")
                add(f"{method} {target} {'.'.join(map(str, path))} = {str(value)[:20]!r}", request(method, target, body))
    for number, path in enumerate(fields(RICH)):
        for other, value in enumerate(WRONG):
            if (number + other) % 4 == 0:
                body = json.dumps(replaced(RICH, path, value)).encode("utf-8", "surrogatepass")
                add(f"rich {'.'.join(map(str, path))} = {str(value)[:20]!r}", request("POST", "/v1/chat/completions", body))
    for url in IMAGES:
        message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
        add(f"image {url}", request("POST", "/v1/chat/completions", json.dumps({"model": "gemini-2.5-flash", "messages": [message]}).encode()))
    # Media types.
    types = ["text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=", "image/png", "", ";", "json", "application/json; charset=utf-16", "application/json" * 500, "a/b/c", "*/*"]
    for method, target, good in everything:
        for kind in types:
            add(f"{method} {target} type {kind[:20]!r}", request(method, target, json.dumps(good).encode(), headers=[("content-type", kind)]))
    # Methods.
    for target in [target for _, target, _ in everything] + READING:
        for method in ["PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "get", "M" * 300, "X-Y_Z!", "OPTIONS"]:
            add(f"{method[:20]} {target}", request(method, target, b"" if method != "PUT" else b"{}"))
    # Credentials.
    for target in ["/v1/models", "/v1/chat/completions", "/api/session", "/v1beta/models"]:
        for value in ["", "Bearer", "Bearer ", "bearer  x", "Basic eHg6eHg=", "Bearer " + "x" * 20_000, "Bearer \t", 'Digest username="x"', "Bearer a b c", b"Bearer \xc3\xa9", "Negotiate", "Bearer null", f"Bearer {ACCESS_KEY}x", f"Bearer {ACCESS_KEY[:-1]}", f"Bearer {ACCESS_KEY},{ADMIN_KEY}"]:
            add(f"{target} authorization {value[:20]!r}", request("GET", target, headers=[("authorization", value)]))
        for query in ["key=", "key", "key=%", "key=%ff", "key=x&key=y", "key=" + "k" * 9_000, "KEY=x", "key[]=x"]:
            add(f"{target}?{query[:20]}", request("GET", f"{target}?{query}", key=""))
        for cookie in ["auth-key", "auth-key=", "auth-key=" + "0" * 64, "auth-key=x; auth-key=y", "=", ";;;;", "a" * 20_000]:
            add(f"{target} cookie {cookie[:20]!r}", request("GET", target, headers=[("cookie", cookie)], key=""))
    # Paths and queries.
    paths = ["/" + "x" * 1_000, "/v1/" + "x" * 20_000, "/v1/files/" + "%41" * 6_000, "/%", "/%zz", "/v1/%", "/v1/%u0041", "/v1/\"quoted\"", "/v1/{x}", "/v1/|", "/v1/^", "/v1/`", "/..", "/./.", "/v1/..", "/v1/%2e%2e/%2e%2e", "/v1//", "//", "///v1/models", "/v1/models/", "/v1/models/%00", "/v1/models/%0d%0a", "/v1/models/a%20b", "/v1/models/" + "m" * 9_000, "/v1/files/%ff%fe", "/v1/files;a=b", "/api", "/api/", "/api/keys/", "/api/keys/x/secret", "/api/keys/-1/secret", "/api/keys/99999999999999999999/secret", "/api/keys/1e3/secret", "/api/keys/0/secret", "/v1beta", "/v1beta/", "/v1beta/models/:generateContent", "/v1beta/models/a:b:c", "/v1beta/models/" + "m" * 5_000 + ":generateContent", "/upload", "/upload/v1beta", "/upload/v1beta/x", "/assets/../api/keys", "/assets/%2e%2e/api/keys", "/g" * 200, "/\u00e9".encode().decode("latin-1")]
    for path in paths:
        for method in ["GET", "POST"]:
            # Backquotes end at the host; the page's own paths are another component's.
            wire = "`" in path or path.startswith("/assets") or not path.strip("/")
            add(f"{method} {path[:40]} by a client", request(method, path, key=ACCESS_KEY), wire=wire)
            add(f"{method} {path[:40]}", request(method, path, key=ADMIN_KEY), wire=wire)
    values = ["", "x", "-1", "0", "1.5", "1e9", "99999999999999999999", "%00", "%ff", "%", "a" * 3_000, "true", "null", "[]", "'; DROP TABLE keys; --", "%25%5f", "null&page=2"]
    parameters = {"/api/keys": ["page", "pageSize", "apiType", "status", "group", "endpoint", "search", "sort", "mask"], "/api/stats": ["range"], "/api/events": ["limit"], "/api/route": ["model", "group"], "/api/keys/export": ["format"]}
    for target, names in parameters.items():
        for name in names:
            for value in values:
                add(f"{target}?{name}={value[:20]}", request("GET", f"{target}?{name}={value}".replace(" ", "%20")))
    # Bodies over the limit, with their length and without, and lengths that are none.
    large = b'{"model":"m","messages":"' + b"x" * (LIMIT + 1000) + b'"}'
    for method, target, good in everything:
        body = json.dumps(good).encode()
        add(f"{method} {target} too large", request(method, target, large))
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (large[start : start + 9_000] for start in range(0, len(large), 9_000))) + b"0\r\n\r\n"
        add(f"{method} {target} too large in chunks", request(method, target, headers=[("transfer-encoding", "chunked"), ("content-type", "application/json")], length=None), chunks)
        add(f"{method} {target} says it is huge", request(method, target, headers=[("content-type", "application/json")], length=10**15))
        for length in ["-1", "+5", "0x10", "1e3", "99999999999999999999999", "5, 6", "abc", ""]:
            add(f"{method} {target} length {length!r}", request(method, target, headers=[("content-type", "application/json"), ("content-length", length)], length=None) + body, wire=True)
        add(f"{method} {target} cut", request(method, target, body[: len(body) // 2], length=len(body) + 50), wire=True)
        add(f"{method} {target} no length at all", request(method, target, headers=[("content-type", "application/json")], length=None))
        add(f"{method} {target} chunk garbage", request(method, target, headers=[("transfer-encoding", "chunked"), ("content-type", "application/json")], length=None) + b"zz\r\n{}\r\n", wire=True)
        add(f"{method} {target} chunk overflow", request(method, target, headers=[("transfer-encoding", "chunked"), ("content-type", "application/json")], length=None) + b"ffffffffffffffffff\r\n{}\r\n", wire=True)
        add(f"{method} {target} length and chunks", request(method, target, headers=[("transfer-encoding", "chunked"), ("content-type", "application/json")], length=4) + b"2\r\n{}\r\n0\r\n\r\n", wire=True)
    # Headers.
    for target in ["/v1/models", "/api/keys", "/v1beta/models"]:
        for size in [8_000, 30_000, 60_000, 100_000, 400_000]:
            add(f"{target} a header of {size}", request("GET", target, headers=[("x-large", "x" * size)]), wire=True)
            add(f"{target} an openai header of {size}", request("GET", target, headers=[("openai-large", "x" * size)]), wire=True)
        for count in [50, 90, 150, 1_000]:
            add(f"{target} {count} headers", request("GET", target, headers=[(f"x-{number}", "y") for number in range(count)]), wire=True)
            add(f"{target} {count} times one header", request("GET", target, headers=[("x-same", "y")] * count), wire=True)
        for name, value in [("x-raw", b"\xff\xfe"), ("x-latin", b"caf\xe9"), ("x-nul", b"a\x00b"), ("x-escape", b"\x1b[31m"), ("x y", "z"), ("", "z"), ("x\x7f", "z"), ("x(y)", "z"), ("content-type", b"\xff"), ("accept", b"\xff"), ("origin", b"\xff"), ("transfer-encoding", "xchunked"), ("transfer-encoding", "chunked, identity"), ("te", "gzip, trailers"), ("upgrade", "websocket"), ("expect", "200-maybe"), ("host", "a b"), ("host", ""), ("host", "[::1"), ("host", "user@host"), ("host", "x" * 300), ("connection", "close, authorization"), ("range", "bytes=0-0"), ("if-none-match", "*"), ("x-request-id", "a\x7fb"), ("x-request-id", "y" * 5_000), ("traceparent", "00-zz-zz-zz"), ("traceparent", "0" * 5_000), ("spin-client-addr", "127.0.0.1:1"), ("spin-client-addr", "nothing"), ("x-forwarded-proto", b"\xff"), ("x-keystorm-edge", "1")]:
            try:
                add(f"{target} {name!r}: {value[:20]!r}", request("GET", target, headers=[(name, value)]), wire=True)
            except UnicodeEncodeError:
                pass
        for name in ["host", "content-type", "authorization", "accept", "origin", "spin-client-addr"]:
            add(f"{target} {name} twice", request("GET", target, headers=[(name, "a"), (name, "b")]), wire=True)
        add(f"{target} folded", request("GET", target)[:-2] + b"x-folded: a\r\n  b\r\n\r\n", wire=True)
        add(f"{target} space before the colon", request("GET", target)[:-2] + b"x-space : a\r\n\r\n", wire=True)
        add(f"{target} bare line feeds", request("GET", target).replace(b"\r\n", b"\n"), wire=True)
        add(f"{target} bare carriage returns", request("GET", target).replace(b"\r\n", b"\r"), 0.0, wire=True)
        for version in ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/9.9", "HTTP/1.1.1", "http/1.1", "HTTPS/1.1", ""]:
            add(f"{target} {version}", request("GET", target, version=version), wire=True)
        for form in ["http://evil.example{}", "https://evil.example:99999{}", "evil.example:443", "*", "?x=1", "#x", "", "\\{}", "{} extra", "{}\x00", "{}\x7f", "http://[::1{}"]:
            add(f"{target} as {form!r}", request("GET", form.format(target)), wire=True)
    for name, data in {"a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), "an HTTP/2 preface and garbage": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(256)), "nothing": b"", "line feeds": b"\n" * 500, "random": random.Random(2).randbytes(3_000), "a long line": b"GET /" + b"x" * 500_000, "ssh": b"SSH-2.0-OpenSSH_9.6\r\n", "a proxy's": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n"}.items():
        add(name, data, wire=True)
    # Two requests in one, as one server reads them and another does not.
    inner = b"GET /api/keys HTTP/1.1\r\nhost: localhost\r\n\r\n"
    for name, headers, body in [
        ("CL.TE", [("content-length", str(len(inner) + 5)), ("transfer-encoding", "chunked")], b"0\r\n\r\n" + inner),
        ("TE.CL", [("transfer-encoding", "chunked"), ("content-length", "4")], b"5c\r\n" + inner + b"\r\n0\r\n\r\n"),
        ("TE.TE", [("transfer-encoding", "chunked"), ("transfer-encoding", "x")], b"0\r\n\r\n" + inner),
        ("two lengths", [("content-length", "0"), ("content-length", str(len(inner)))], inner),
        ("tab", [("transfer-encoding", "\tchunked")], b"0\r\n\r\n" + inner),
        ("no colon", [("transfer-encoding chunked", "")], inner),
    ]:
        add(f"smuggled by {name}", request("POST", "/v1/chat/completions", headers=[("content-type", "application/json"), *headers], length=None) + body, wire=True)
    # Slow: a head that stops, a body that does not come, one that stops, one that drips.
    for method, target, good in everything:
        body = json.dumps(good).encode()
        whole = request(method, target, body)
        head = whole[: len(whole) - len(body)]
        add(f"{method} {target} no body", head, 30.0)
        add(f"{method} {target} half a body", head + body[: len(body) // 2], 30.0)
        add(f"{method} {target} hangs up inside", head + body[:3], 0.0, wire=True)
    drip = b'{"model":"mock-large","messages":[]}'
    add("a dripping body", request("POST", "/v1/chat/completions", length=len(drip), headers=[("content-type", "application/json")]), *[piece for byte in drip for piece in (bytes([byte]), 0.2)], 30.0)
    return cases


def phase(name):
    """When a case's turn is: the administrator's are behind those of clients, as some are valid and delete all keys; and what
    counts as a guess at the administrator's key is last, as it closes the door for everybody who comes from there."""
    if any(word in name for word in ("/api/login", " by a client", "authorization", "cookie")):
        return 2
    return 1 if "/api/" in name else 0
