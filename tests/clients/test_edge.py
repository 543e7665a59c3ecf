"""Edge mode: everything but the page goes to the KeyStorm that owns the pool, and comes back from it, as it is."""

import http.client
import http.server
import json
import socket
import threading
import time

import openai
import pytest

from conftest import ACCESS_KEY, ADMIN_KEY, KeyStorm, call, free_port

GOOD = "sk-good-0000000000000001"
HELLO = [{"role": "user", "content": "hello there"}]


class Home(http.server.ThreadingHTTPServer):
    """A home that shows what reaches it: it keeps the last request, and streams as slowly as it is told."""

    daemon_threads = True

    def __init__(self):
        self.last, self.gone = {}, threading.Event()
        super().__init__(("127.0.0.1", free_port()), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def read_body(self):
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self):
        if self.path == "/v1/slow":
            time.sleep(3)
        body = b"" if self.path == "/v1/upload" else self.read_body()
        self.server.last = {"path": self.path, "headers": {name.lower(): self.headers.get_all(name) for name in self.headers}, "body": body}
        self.send_response(200)
        self.send_header("access-control-allow-origin", "https://the-home-allows.example")
        self.send_header("set-cookie", "auth-key=from-home")
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if self.path == "/v1/upload":
            # Answers while the request is still coming: each piece as it came.
            while size := int(self.rfile.readline(), 16):
                self.chunk(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        elif self.path == "/v1/endless":
            try:
                while True:
                    self.chunk(b"data: x\n\n")
                    time.sleep(0.02)
            except OSError:
                self.server.gone.set()
                return
        else:
            for number in range(5):
                self.chunk(b"data: %d\n\n" % number)
                time.sleep(0.1)
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_OPTIONS = do_DELETE = answer


@pytest.fixture
def home():
    home = Home()
    yield home
    home.shutdown()


@pytest.fixture
def edge_to(upstream, tmp_path):
    edges = []

    def start(url, **variables):
        edges.append(KeyStorm(upstream, tmp_path / f"edge-{len(edges)}", home_url=url, **variables))
        return edges[-1]

    yield start
    for edge in edges:
        edge.stop()


def test_clients_the_administrator_and_the_page_through_an_edge(keystorm, edge_to):
    # The edge's own credentials are others: it judges nobody.
    edge = edge_to(keystorm.url, auth_key="edges-own", home_access_key="edges-own-administrator")
    edge.add(GOOD)
    assert keystorm.admin("GET", "/api/keys")[2]["total"] == 1
    client = openai.OpenAI(base_url=f"{edge.url}/v1", api_key=ACCESS_KEY, max_retries=0)
    answer = client.chat.completions.create(model="mock-large", messages=HELLO)
    assert answer.choices[0].message.content == "You said: hello there"
    chunks = client.chat.completions.create(model="mock-large", messages=HELLO, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "You said: hello there"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{edge.url}/v1", api_key="edges-own", max_retries=0).models.list()
    # The page is the edge's own; a session is the home's.
    assert "<title>" in call("GET", f"{edge.url}/")[2]
    status, headers, _ = call("POST", f"{edge.url}/api/login", {"key": ADMIN_KEY}, {"x-forwarded-proto": "https"})
    assert status == 200 and "Secure" in headers["set-cookie"]
    cookie = headers["set-cookie"].split(";")[0]
    own, other = {"cookie": cookie, "origin": edge.url}, {"cookie": cookie, "origin": "https://elsewhere.example"}
    assert call("POST", f"{edge.url}/api/keys", {"keys": ["sk-from-the-page-00000001"]}, own)[0] == 200
    assert call("POST", f"{edge.url}/api/keys", {"keys": ["sk-from-elsewhere-00000001"]}, other)[2]["error"]["code"] == "cross_origin"


def test_what_the_home_gets_and_gives(home, edge_to):
    edge = edge_to(home.url)
    headers = {"x-forwarded-for": "198.51.100.9", "origin": "https://page.example", "x-request-id": "mine-1", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "cookie": "a=b", "spin-client-addr": "6.6.6.6:1", "authorization": "Bearer k"}
    status, got, text = call("POST", f"{edge.url}/team/v1/chat/completions?x=1&y=%2F", {"a": 1}, headers)
    assert status == 200 and text == "".join(f"data: {number}\n\n" for number in range(5))
    # The home's own answer, and nothing of the edge's on top.
    assert got["access-control-allow-origin"] == "https://the-home-allows.example"
    assert got["set-cookie"] == "auth-key=from-home" and got["x-request-id"] == "mine-1"
    seen = home.last["headers"]
    assert home.last["path"] == "/team/v1/chat/completions?x=1&y=%2F" and json.loads(home.last["body"]) == {"a": 1}
    assert ", ".join(seen["x-forwarded-for"]) == "198.51.100.9, 127.0.0.1"
    assert seen["x-forwarded-host"] == [edge.url.removeprefix("http://")] and seen["x-forwarded-proto"] == ["http"]
    assert seen["host"] == [home.url.removeprefix("http://")] and seen["content-length"] == ["8"]
    for name in ("authorization", "cookie", "origin", "traceparent", "x-request-id"):
        assert seen[name] == [headers[name]]
    assert not [name for name in seen if name.startswith("spin-")]


def test_streams_flow_both_ways_as_they_are_written(home, edge_to):
    edge = edge_to(home.url)
    moments = []
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=10)
    connection.request("GET", "/v1/anything")
    answer = connection.getresponse()
    while answer.read1(100):
        moments.append(time.monotonic())
    assert len(moments) >= 5 and moments[-1] - moments[0] > 0.3
    # Upwards: the home answers each piece before the next one is sent.
    with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as raw:
        raw.sendall(b"POST /v1/upload HTTP/1.1\r\nhost: edge\r\ntransfer-encoding: chunked\r\n\r\n")
        seen = b""
        for number in range(5):
            raw.sendall(b"7\r\npiece-%d\r\n" % number)
            while b"piece-%d" % number not in seen:
                received = raw.recv(4096)
                assert received
                seen += received
        raw.sendall(b"0\r\n\r\n")


def test_a_client_that_leaves_is_noticed_at_home(home, edge_to):
    edge = edge_to(home.url)
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=10)
    connection.request("GET", "/v1/endless")
    assert connection.getresponse().read1(100)
    assert not home.gone.is_set()
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    assert home.gone.wait(5)


def test_a_loop_is_refused(edge_to):
    port = free_port()
    edge = edge_to(f"http://127.0.0.1:{port}")
    second = edge_to(edge.url)
    # Through two edges, and straight back to itself.
    edge.stop()
    edge.variables["home_url"] = second.url
    edge.start()
    for service in (edge, second):
        status, _, error = service.client("GET", "/v1/models")
        assert (status, error["error"]["code"]) == (508, "edge_loop")


def test_a_home_that_is_away_is_told_in_the_clients_dialect(home, edge_to):
    nobody = edge_to(f"http://127.0.0.1:{free_port()}")
    status, _, error = nobody.client("GET", "/v1/models")
    assert (status, error["error"]["code"]) == (502, "upstream_error") and "home_url" in error["error"]["message"]
    status, _, error = nobody.client("POST", "/v1beta/models/gemini-x:generateContent", {})
    assert (status, error["error"]["status"]) == (502, "INTERNAL"), error
    slow = edge_to(home.url, first_byte_timeout_ms="500")
    status, _, error = slow.client("GET", "/v1/slow")
    assert status == 504 and "did not answer in time" in error["error"]["message"]
    denied = edge_to("http://home.example")
    assert "allowed_outbound_hosts" in denied.client("GET", "/v1/models")[2]["error"]["message"]


def test_from_which_country_requests_leave(upstream, tmp_path):
    answers = {"/trace": b"ip=203.0.113.7\nloc=US\ncolo=IAD\n", "/page": b"<html></html>"}

    class Trace(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            body = answers.get(self.path)
            self.send_response(200 if body else 404)
            self.end_headers()
            self.wfile.write(body or b"")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trace)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    expected = {
        f"http://127.0.0.1:{server.server_port}/trace": (200, "US"),
        f"http://127.0.0.1:{server.server_port}/page": (502, "names no country"),
        f"http://127.0.0.1:{server.server_port}/nothing": (502, "404"),
        f"http://127.0.0.1:{free_port()}/": (502, "egress_trace_url"),
        "off": (200, None),
    }
    for url, (status, told) in expected.items():
        keystorm = KeyStorm(upstream, tmp_path / "egress", egress_trace_url=url)
        try:
            got = keystorm.admin("GET", "/api/egress")
            assert got[0] == status, (url, got)
            if status == 200:
                assert got[2]["country"] == told, (url, got)
            else:
                assert told in got[2]["error"]["message"], (url, got)
            assert keystorm.client("GET", "/api/egress")[0] == 401
        finally:
            keystorm.stop()
    server.shutdown()
