"""What a hostile caller tries against the running service, and what it leaves behind."""

import json
import re
import socket
import sqlite3
import subprocess
import time

import pytest

from conftest import ACCESS_KEY, ADMIN_KEY, KeyStorm, call
from corpus import CHAT, GEMINI, request
from scripted import Scripted
from test_faults import listening

DEFAULT = "e86ea1ceb610e1ed502f5a99a386a0a252a933525187a43f18db6a6d91c91434"


@pytest.fixture
def scripted():
    upstream = Scripted()
    yield upstream
    upstream.stop()


@pytest.fixture
def over(scripted, tmp_path):
    keystorm = KeyStorm(scripted, tmp_path / "state", allow_private_endpoints="true", first_byte_timeout_ms="800")
    yield keystorm
    if keystorm.process.poll() is None:
        keystorm.stop()


def wire(keystorm, data, timeout=10):
    """All that comes back for these bytes."""
    got = b""
    with socket.create_connection(("127.0.0.1", keystorm.port), timeout=timeout) as connection:
        connection.sendall(data)
        try:
            while part := connection.recv(65536):
                got += part
        except (ConnectionError, socket.timeout):
            pass
    return got


def own_address():
    """An address of this machine that is not loopback: to whom it connects it comes from there."""
    listed = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()
    return next(address for address in listed if "." in address)


def test_the_published_defaults_serve_nobody_from_elsewhere(scripted, tmp_path):
    keystorm = KeyStorm(scripted, tmp_path / "state", auth_key="", home_access_key="", listen="0.0.0.0")
    try:
        admin, client = {"authorization": f"Bearer {DEFAULT}"}, {"authorization": "Bearer yCENzh"}
        elsewhere = f"http://{own_address()}:{keystorm.port}"
        # What a client says of itself stands in front of what the host says.
        lies = {"spin-client-addr": "127.0.0.1:1", "host": "localhost"}
        for base, more, status in [(keystorm.url, {}, 200), (elsewhere, {}, 403), (elsewhere, lies, 403), (keystorm.url, {"x-forwarded-for": "127.0.0.1"}, 403), (keystorm.url, {"host": "rebound.example"}, 403), (keystorm.url, {"origin": "https://evil.example"}, 403)]:
            assert call("GET", f"{base}/api/keys", headers={**admin, **more})[0] == status, (base, more)
            assert call("GET", f"{base}/v1/models", headers={**client, **more})[0] == (503 if status == 200 else 403), (base, more)
    finally:
        keystorm.stop()


PATHS = [
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/../api/keys",
    "/v1/%2e%2e/api/keys",
    "/v1/.%2e/api/keys",
    "/v1/%252e%252e/api/keys",
    "/v1/files%2f..%2f..%2fadmin",
    "/v1/files/..;/x",
    "/v1/files;jsessionid=1",
    "/v1/files%5c..%5cx",
    "/v1/files\\..\\x",
    "/v1/%c0%ae%c0%ae/x",
    "/v1/files%0d%0aevil:%20header",
    "/v1/files%00.json",
    "/v1beta/models/..%2f..%2fevil:generateContent",
    "/v1beta/../v1/files",
    "/upload/v1beta/..%2fx",
    "/g/../v1/files",
    "/%2e%2e/v1/files",
    "/v1/models/x/../../files",
]


def test_no_path_reaches_another_route_or_host(over, scripted):
    over.add("sk-good-1")
    over.add("AIza-good-1", apiType="gemini")
    for path in PATHS:
        for method in ("GET", "POST"):
            answer = wire(over, request(method, path, b"{}", key=ACCESS_KEY))
            assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), (path, answer[:300])
    assert scripted.requests == []
    # What is read as it stands goes to the one host that is meant, whatever it looks like.
    for target in ("/v1/files/@evil.example/x", "/v1/files/http://evil.example/x".replace("//", "/"), "/v1/files?u=http://evil.example/", "http://evil.example/v1/files/x"):
        wire(over, request("GET", target, key=ACCESS_KEY))
    assert [request.target.startswith("/v1/files") for request in scripted.requests] == [True] * 4
    assert {dict(request.headers)["host"] for request in scripted.requests} == {f"127.0.0.1:{scripted.port}"}


def test_nothing_is_smuggled(over, scripted):
    over.add("sk-echo-only-1")
    inner = b"POST /v1/files/smuggled HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + ACCESS_KEY.encode() + b"\r\ncontent-length: 0\r\n\r\n"
    length = ("content-length", str(len(inner) + 5))
    attempts = [
        request("POST", "/v1/files", headers=[length, ("transfer-encoding", "chunked")], length=None) + b"0\r\n\r\n" + inner,
        request("POST", "/v1/files", headers=[("transfer-encoding", "chunked"), ("content-length", "3")], length=None) + b"0\r\n\r\n" + inner,
        request("POST", "/v1/files", headers=[("transfer-encoding", "xchunked"), length], length=None) + b"0\r\n\r\n" + inner,
        request("POST", "/v1/files", headers=[("content-length", "0"), length], length=None) + inner,
        request("POST", "/v1/files", headers=[("x", "y\r\ncontent-length: 0")], length=len(inner)) + inner,
    ]
    for attempt in attempts:
        wire(over, attempt)
    time.sleep(0.3)
    smuggled = [request for request in scripted.requests if "smuggled" in request.target]
    assert smuggled == [], "`connection: close` ends a connection, whatever follows"
    # Header values that end a line: the host refuses them, or they arrive as one value.
    for value in (b"a\r\nx-evil: 1", b"a\nx-evil: 1", b"a\rx-evil: 1", b"a\x00x-evil: 1"):
        wire(over, request("POST", "/v1/files", headers=[("openai-beta", value)]))
    for line in scripted.requests:
        assert "x-evil" not in dict(line.headers)


def test_headers_travel_by_lists(over, scripted):
    over.add("sk-echo-only-1")
    sent = {
        "cookie": "auth-key=stolen",
        "x-forwarded-for": "192.0.2.7",
        "forwarded": "for=192.0.2.7",
        "via": "1.1 x",
        "spin-client-addr": "192.0.2.7:1",
        "spin-full-url": "http://x/",
        "proxy-authorization": "Basic eA==",
        "x-goog-iap-jwt-assertion": "eyJhbGciOi",
        "openai-organization": "org-of-the-client",
        "x-api-key": ACCESS_KEY,
        "x-goog-api-key": ACCESS_KEY,
        "te": "trailers",
        "accept-encoding": "gzip",
        "x-request-id": "of-the-client",
        "openai-beta": "assistants=v2",
        "idempotency-key": "k",
    }
    status, headers, seen = call("POST", f"{over.url}/v1/chat/completions?key={ACCESS_KEY}&a=1", CHAT, {"authorization": f"Bearer {ACCESS_KEY}", **sent})
    assert status == 200
    assert seen["target"] == "/v1/chat/completions?a=1"
    names = sorted(name for name, _ in seen["headers"])
    assert set(names) <= {"authorization", "content-length", "content-type", "host", "idempotency-key", "openai-beta", "user-agent", "accept"}, names
    assert {"openai-beta", "idempotency-key"} <= set(names)
    assert dict(map(tuple, seen["headers"]))["authorization"] == "Bearer sk-echo-only-1"
    assert headers["x-request-id"] == "of-the-client" and headers["x-content-type-options"] == "nosniff"


def test_an_upstreams_web_page_runs_nothing_in_this_origin(over):
    over.add("sk-webpage-1")
    answer = wire(over, request("GET", "/v1/files/x/content"))
    head = answer.split(b"\r\n\r\n")[0].lower()
    assert b"content-type: text/html" in head
    assert b"content-security-policy: default-src 'none'; sandbox" in head and b"x-content-type-options: nosniff" in head


ENDPOINTS = [
    "http://169.254.169.254/latest",
    "https://169.254.169.254/",
    "https://[::ffff:169.254.169.254]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://2852039166/",
    "https://0xa9fea9fe/",
    "https://0251.0376.0251.0376/",
    "https://169.254.43518/",
    "https://metadata.google.internal/",
    "https://metadata.goog/",
    "https://api.example@169.254.169.254/",
    "https://user:pass@api.example/",
    "http://api.example/v1",
    "http://self.alt/",
    "http://keystorm.spin.internal/",
    "https://0.0.0.0/",
    "https://[::]/",
    "https://[fe80::1]/",
    "ftp://api.example/",
    "file:///etc/passwd",
    "https://api.example/?x=1",
    "https://api.example/#x",
    "https://api.example/../x",
    "https://api.example\\@169.254.169.254/",
    "https://api.example:99999/",
]
PRIVATE = ["http://127.0.0.1:1/", "https://localhost/", "http://[::1]/", "https://10.0.0.1/", "https://192.168.1.1/", "https://[::ffff:10.0.0.1]/", "https://[fd00::1]/", "https://intern/", "https://x.svc.cluster.local/", "https://100.64.0.1/"]


def test_endpoints_lead_to_no_place_that_is_nobodys_business(over, scripted, tmp_path):
    def add(keystorm, endpoint, path="/api/keys"):
        if path == "/api/keys":
            return keystorm.admin("POST", path, {"keys": ["sk-good-1"], "customEndpoint": endpoint, "apiType": "openai"})
        return keystorm.admin("POST", path, [{"api_key": "sk-good-1", "customEndpoint": endpoint}])

    strict = KeyStorm(scripted, tmp_path / "strict")
    try:
        for path in ("/api/keys", "/api/keys/import"):
            for endpoint in ENDPOINTS:
                for keystorm in (over, strict):
                    status, _, answer = add(keystorm, endpoint, path)
                    assert status == 400 and answer["error"]["param"].endswith("customEndpoint"), (endpoint, answer)
            for endpoint in PRIVATE:
                status, _, answer = add(strict, endpoint, path)
                assert status == 400 and "allow_private_endpoints" in answer["error"]["message"], (endpoint, answer)
        assert add(over, PRIVATE[0])[0] == 200
    finally:
        strict.stop()


def test_a_name_that_leads_to_a_private_address_is_blocked_where_the_host_is_told_to(scripted, tmp_path):
    config = tmp_path / "runtime-config.toml"
    config.write_text('[outbound_http]\nconnection_pooling = true\n[outbound_networking]\nblock_networks = ["private"]\n')
    reached = []
    with listening(lambda connection: reached.append(connection.recv(10))) as port:
        keystorm = KeyStorm(scripted, tmp_path / "state", runtime_config=config, allow_private_endpoints="true")
        try:
            # `localhost` is a name: that it is private is seen only once it is resolved. The address is private as it stands.
            for group, endpoint in {"name": f"http://localhost:{port}/v1", "address": f"http://127.0.0.1:{port}/v1"}.items():
                keystorm.add("sk-good-1", customEndpoint=endpoint, group=group)
                status, _, answer = keystorm.client("POST", f"/{group}/v1/chat/completions", CHAT)
                assert (status, answer["error"]["code"]) == (502, "upstream_error"), answer
        finally:
            keystorm.stop()
        assert reached == []
        # Without the block the same name is reached: it is the block that holds.
        keystorm = KeyStorm(scripted, tmp_path / "open", allow_private_endpoints="true")
        try:
            keystorm.add("sk-good-1", customEndpoint=f"http://localhost:{port}/v1")
            keystorm.client("POST", "/v1/chat/completions", CHAT)
        finally:
            keystorm.stop()
        assert reached != []


def test_a_redirect_of_the_upstream_is_not_followed(over, scripted):
    over.add("sk-redirect-1")
    assert over.client("POST", "/v1/chat/completions", CHAT)[0] == 502
    assert over.client("GET", "/v1/files")[0] == 502
    assert "/elsewhere" not in {request.target for request in scripted.requests}


def test_the_state_is_readable_for_its_owner_alone(keystorm):
    assert keystorm.state.stat().st_mode & 0o077 == 0


def rows_but_the_sealed_ones(path):
    """Everything in a database as text, but for the column that holds the secrets sealed."""
    text = []
    connection = sqlite3.connect(path, timeout=20)
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        columns = [column[1] for column in connection.execute(f"PRAGMA table_info({table})")]
        for row in connection.execute(f"SELECT * FROM {table}"):
            text += [f"{table}.{name}={value!r}" for name, value in zip(columns, row)]
    connection.close()
    return "\n".join(text)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_hostile_run_leaves_no_credential_anywhere(scripted, tmp_path, sealed):
    """Upstreams that quote keys, callers that send them everywhere, faults of all kinds: then everything that was produced
    is searched for every credential, whole, encoded and in pieces."""
    encryption = "the-operators-own-encryption-key"
    metrics = "the-metrics-token"
    keystorm = KeyStorm(scripted, tmp_path / "state", allow_private_endpoints="true", first_byte_timeout_ms="500", metrics_token=metrics, encryption_key=encryption if sealed else "", log_requests="all")
    secret = "0f5c8a17d3e94b62"
    words = ["dead", "wrong", "broken", "limited", "seed", "html", "nohead", "reset", "garbage", "redirect", "tooshort", "hugehead"]
    keys = {word: f"sk-{word}-{secret}{number:02}" for number, word in enumerate(words)}
    gemini = {word: f"AIza-{word}-{secret}{number + 50}" for number, word in enumerate(words)}
    own = [ACCESS_KEY, ADMIN_KEY, metrics, encryption]
    produced = []

    def keep(answer):
        produced.append(str(answer))
        return answer

    for word in words:
        keep(keystorm.add(keys[word], group=word, note=f"note of {word}"))
        keep(keystorm.add(gemini[word], group=f"g-{word}", apiType="gemini"))
    session = call("POST", f"{keystorm.url}/api/login", {"key": ADMIN_KEY})
    cookie = session[1]["set-cookie"].split(";")[0].split("=")[1]
    own.append(cookie)
    for word in words:
        # Those that quote the key are asked everywhere, the others once.
        quotes = words.index(word) < 5
        for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/files", "/v1/models", "/v1/responses")[: 5 if quotes else 1]:
            body = b"" if path.endswith("models") else json.dumps({**CHAT, "input": "x"}).encode()
            keep(wire(keystorm, request("POST" if body else "GET", f"/{word}{path}", body)))
        for path in ("/v1beta/models/m:generateContent", "/v1beta/models/m:streamGenerateContent?alt=sse", "/v1beta/files")[: 3 if quotes else 1]:
            keep(wire(keystorm, request("POST", f"/g-{word}{path}", json.dumps(GEMINI).encode())))
        body = json.dumps({**CHAT, "model": "gemini-2.5-flash"}).encode()
        keep(wire(keystorm, request("POST", f"/g-{word}/v1/chat/completions", body)))
    for _ in range(2):
        for path in ("/api/keys?mask=true", "/api/keys/check", "/api/stats?range=24h", "/api/events", "/api/endpoints", "/api/route?model=m", "/api/settings", "/api/session", "/api/sessions", "/readyz", "/healthz", "/metrics", "/api/openapi.json"):
            keep(keystorm.admin("GET", path))
        keep(call("GET", f"{keystorm.url}/metrics", headers={"authorization": f"Bearer {metrics}"}))
        # Credentials where they do not belong.
        for value in (keys["dead"], ADMIN_KEY, ACCESS_KEY):
            keep(keystorm.admin("POST", "/api/keys", {"keys": value}))
            keep(keystorm.admin("POST", "/api/keys", {value: 1}))
            keep(keystorm.admin("POST", "/api/keys", value))
            keep(keystorm.admin("POST", "/api/keys/import", {"keys": [{"api_key": {"x": value}}]}))
            keep(keystorm.admin("GET", f"/api/keys?sort=created_at&apiType={value}"))
            keep(keystorm.client("POST", "/v1/chat/completions", value))
            keep(call("GET", f"{keystorm.url}/v1/models?key={value}x"))
            keep(call("GET", f"{keystorm.url}/nothing/at/all?key={value}"))
    time.sleep(1.5)
    keystorm.stop()
    produced.append(keystorm.log.read_text())
    store = (keystorm.state / "sqlite_key_value.db").read_bytes().decode("latin-1")
    rows = rows_but_the_sealed_ones(keystorm.state / "sqlite_db.db")
    if sealed:
        for file in keystorm.state.iterdir():
            produced.append(file.read_bytes().decode("latin-1"))
    else:
        # What is stored plainly is in one column, and in no other.
        rows = "\n".join(line for line in rows.split("\n") if not line.startswith("keys.secret="))
    produced += [rows, store]
    everything = "\n".join(produced)
    credentials = own + list(keys.values()) + list(gemini.values())
    # What the callers sent on purpose comes back in nothing but the echo of an unknown address.
    found = [credential for credential in credentials if credential in everything or credential.encode().hex() in everything]
    assert found == [], [(credential, [text[max(0, text.find(credential) - 200) :][:400] for text in produced if credential in text][:3]) for credential in found]
    assert not re.search(re.escape(secret), everything), "nor the middle of one"
    upstream_saw = json.dumps([[request.target, request.headers] for request in scripted.requests])
    assert [credential for credential in own if credential in upstream_saw] == [], "and nothing of a caller's went up"
    assert [request.target for request in scripted.requests if secret in request.target] == [], "no key is in a URL"
    print(f"{len(produced)} answers, logs and files, {len(everything)} characters, {len(credentials)} credentials: none found")
