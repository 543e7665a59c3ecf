"""An upstream that does what it is told by the key, down to the bytes: what no well-behaved server would ever send."""

import contextlib
import gzip
import json
import socket
import struct
import threading
import time

EVENTS = 8


def answer(body, status="200 OK", **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"content-type": "application/json", "content-length": str(len(data)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None) + "\r\n"
    return head.encode() + data


def completion(text="fine"):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def event(number, text="word "):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": number, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


def piece(data):
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Request:
    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body

    def key(self):
        headers = dict(self.headers)
        return headers.get("authorization", "").removeprefix("Bearer ") or headers.get("x-goog-api-key", "")


class Scripted:
    """Behaviours are chosen by the second word of the key: `sk-garbage-1` gets `garbage`."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests = []
        self.open = 0
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def stop(self):
        self.stopped.set()
        self.listener.close()

    def accept(self):
        while not self.stopped.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with self.lock:
            self.open += 1
        try:
            with connection, contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                reader = connection.makefile("rb")
                while request := self.read(reader):
                    with self.lock:
                        self.requests.append(request)
                    words = request.key().split("-")
                    behave = getattr(self, words[1]) if len(words) > 2 else self.good
                    if behave(connection, request) == "close":
                        return
        finally:
            with self.lock:
                self.open -= 1

    @staticmethod
    def read(reader):
        line = reader.readline().decode("latin-1").split()
        if len(line) < 3:
            return None
        headers = []
        while (text := reader.readline().decode("latin-1").strip()) != "":
            name, _, value = text.partition(":")
            headers.append((name.strip().lower(), value.strip()))
        fields = dict(headers)
        body = b""
        if "content-length" in fields:
            body = reader.read(int(fields["content-length"]))
        elif fields.get("transfer-encoding") == "chunked":
            while size := int(reader.readline().split(b";")[0] or b"0", 16):
                body += reader.read(size)
                reader.readline()
            reader.readline()
        return Request(line[0], line[1], headers, body)

    # What a key can be told to do.

    def good(self, connection, request):
        if b'"stream":true' in request.body.replace(b" ", b""):
            connection.sendall(STREAM + b"".join(piece(event(number)) for number in range(EVENTS)) + piece(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        else:
            connection.sendall(answer(completion()))

    def echo(self, connection, request):
        connection.sendall(answer({"target": request.target, "headers": request.headers, "body": request.body.decode("latin-1")}))

    def nohead(self, connection, request):
        """Takes the request and says nothing."""
        self.stopped.wait(30)
        return "close"

    def hangup(self, connection, request):
        return "close"

    def reset(self, connection, request):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return "close"

    def slowhead(self, connection, request):
        time.sleep(0.6)
        connection.sendall(answer(completion()))

    def slowbody(self, connection, request):
        """A body that takes longer than any time-out on the whole, but never pauses for as long."""
        data = json.dumps(completion()).encode()
        connection.sendall(answer(b"", content_length=str(len(data))))
        for start in range(0, len(data), 40):
            time.sleep(0.3)
            connection.sendall(data[start : start + 40])

    def stall(self, connection, request):
        """A stream that stops in the middle and keeps its connection."""
        connection.sendall(STREAM + piece(event(0)))
        self.stopped.wait(30)
        return "close"

    def cut(self, connection, request):
        """A stream that ends behind the event that the key names: `sk-cut-3-...` behind the third."""
        self.cutatonce(connection, request)
        # A host that sees bytes and the end of them at once may throw away what it has not handed on.
        time.sleep(0.2)
        return "close"

    def cutatonce(self, connection, request):
        count = int(request.key().split("-")[2])
        connection.sendall(STREAM + b"".join(piece(event(number)) for number in range(count)))
        return "close"

    def cutinside(self, connection, request):
        connection.sendall(STREAM + piece(event(0)) + b"200\r\n" + event(1)[:30])
        return "close"

    def garbage(self, connection, request):
        connection.sendall(b"\x00\xffthis is no HTTP at all\r\n\r\n" * 20)
        return "close"

    def garbagechunk(self, connection, request):
        connection.sendall(STREAM + piece(event(0)) + b"zz\r\nnot a chunk\r\n")
        return "close"

    def tooshort(self, connection, request):
        connection.sendall(answer(completion(), content_length="100000"))
        return "close"

    def toolong(self, connection, request):
        data = answer(completion(), content_length="10")
        connection.sendall(data)
        return "close"

    def badlength(self, connection, request):
        connection.sendall(answer(completion(), content_length="-5"))
        return "close"

    def twolengths(self, connection, request):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 5\r\n\r\n{}   ")
        return "close"

    def hugehead(self, connection, request):
        connection.sendall(answer(completion(), x_huge="x" * 1_000_000))
        return "close"

    def manyheads(self, connection, request):
        connection.sendall(answer(completion(), **{f"x_{number}": "y" * 100 for number in range(2000)}))
        return "close"

    def endless(self, connection, request):
        connection.sendall(STREAM)
        number = 0
        while not self.stopped.is_set():
            connection.sendall(piece(event(number)))
            number += 1
            time.sleep(0.002)
        return "close"

    def bigevent(self, connection, request):
        connection.sendall(STREAM + piece(event(0, "x" * 1_000_000)) + piece(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    def gzipped(self, connection, request):
        connection.sendall(answer(gzip.compress(json.dumps(completion()).encode()), content_encoding="gzip"))

    def redirect(self, connection, request):
        connection.sendall(answer(b"", status="302 Found", location=f"{self.url}/elsewhere"))

    def html(self, connection, request):
        connection.sendall(answer(b"<html><script>alert(1)</script>busy</html>", status="500 Internal Server Error", content_type="text/html"))

    def html502(self, connection, request):
        connection.sendall(answer(b"<html>bad gateway</html>", status="502 Bad Gateway", content_type="text/html"))

    def webpage(self, connection, request):
        connection.sendall(answer(b"<html><script>alert(1)</script></html>", content_type="text/html"))

    def dead(self, connection, request):
        """Refuses the key, and quotes it in all the ways that providers do."""
        error = {"message": f"Incorrect API key provided: {request.key()}. See ?key={request.key()}", "type": "invalid_request_error", "code": "invalid_api_key"}
        connection.sendall(answer({"error": error}, status="401 Unauthorized", www_authenticate=f"Bearer {request.key()}"))

    def wrong(self, connection, request):
        """Finds the request wrong, and quotes the key all the same."""
        error = {"message": f"Invalid value for {request.key()}", "type": "invalid_request_error", "param": "x", "code": None, "seen": dict(request.headers)}
        connection.sendall(answer({"error": error}, status="400 Bad Request", x_seen=request.key()))

    def broken(self, connection, request):
        connection.sendall(answer({"error": {"message": f"boom {request.key()}"}}, status="500 Internal Server Error"))

    def limited(self, connection, request):
        error = {"message": f"Rate limit reached for {request.key()}", "type": "requests", "code": "rate_limit_exceeded"}
        connection.sendall(answer({"error": error}, status="429 Too Many Requests", retry_after="1"))

    def seed(self, connection, request):
        connection.sendall(answer({"ok": True}, x_seen=f"key={request.key()}"))
