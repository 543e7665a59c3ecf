"""What upstreams, storage and the machine can do to KeyStorm, and what a client sees of it."""

import contextlib
import ctypes
import json
import os
import random
import resource
import signal
import socket
import sqlite3
import ssl
import threading
import time

import pytest

from conftest import ACCESS_KEY, ADMIN_KEY, MANIFEST, KeyStorm, call, eventually, free_port
from scripted import EVENTS, Scripted

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
QUICK = {"connect_timeout_ms": "800", "first_byte_timeout_ms": "800", "idle_timeout_ms": "800", "allow_private_endpoints": "true"}


@pytest.fixture(scope="module")
def scripted():
    upstream = Scripted()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="module")
def over(scripted, tmp_path_factory):
    """One KeyStorm for all upstream faults: each has a group of its own."""
    keystorm = KeyStorm(scripted, tmp_path_factory.mktemp("faults") / "state", **QUICK)
    yield keystorm
    assert keystorm.process.poll() is None, "the runner has died"
    keystorm.stop()
    log = keystorm.log.read_text()
    assert "An instance has failed" not in log and "panicked" not in log, log


def raw(keystorm, path, body, timeout=15):
    """The answer as it comes over the wire: its head, its body as far as it came, and whether that was to its end."""
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", keystorm.port), timeout=timeout) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ACCESS_KEY}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n".encode() + data)
        got = b""
        with contextlib.suppress(ConnectionError, socket.timeout):
            while part := connection.recv(65536):
                got += part
    head, _, body = got.partition(b"\r\n\r\n")
    return head.decode("latin-1"), body, body.endswith(b"0\r\n\r\n")


def in_group(keystorm, group, *keys, **more):
    keystorm.add(*keys, group=group, **more)
    return lambda body=CHAT: keystorm.client("POST", f"/{group}/v1/chat/completions", body)


BEFORE_THE_HEAD = {
    "nohead": (504, "upstream_error"),
    "hangup": (502, "upstream_error"),
    "reset": (502, "upstream_error"),
    "garbage": (502, "upstream_error"),
    "badlength": (502, "upstream_error"),
    "twolengths": (502, "upstream_error"),
    "hugehead": (502, "upstream_error"),
    "manyheads": (502, "upstream_error"),
    "html": (502, "upstream_error"),
    "html502": (502, "upstream_error"),
    "redirect": (502, "upstream_error"),
    "broken": (502, "upstream_error"),
    "dead": (503, "no_available_keys"),
    "limited": (429, "rate_limit_exceeded"),
}


@pytest.mark.parametrize("fault", BEFORE_THE_HEAD)
def test_a_fault_before_the_head_is_told_alone_and_unseen_beside_a_good_key(over, fault):
    key = f"sk-{fault}-1"
    ask = in_group(over, fault, key)
    started = time.monotonic()
    status, headers, answer = ask()
    assert (status, answer["error"]["code"]) == BEFORE_THE_HEAD[fault], answer
    assert time.monotonic() - started < 8
    assert set(answer["error"]) >= {"message", "type", "param", "code"}
    assert key not in str(answer) + str(headers)
    beside = in_group(over, f"{fault}-beside", key, *[f"sk-good-{fault}-{number}" for number in range(3)])
    assert [beside()[0] for _ in range(4)] == [200] * 4


@contextlib.contextmanager
def listening(serve):
    """A server that does with each connection what it is told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with contextlib.suppress(OSError), connection:
                        serve(connection)

        threading.Thread(target=run, daemon=True).start()
        yield listener.getsockname()[1]


def test_nobody_listens_no_name_no_tls(over):
    with listening(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        no_connection(over, port)


def no_connection(over, port):
    wrong = {
        "refused": f"http://127.0.0.1:{free_port()}/v1",
        "no-name": "https://no-such-host.invalid/v1",
        "no-tls": f"https://localhost:{port}/v1",
    }
    for group, endpoint in wrong.items():
        ask = in_group(over, group, f"sk-good-{group}", customEndpoint=endpoint)
        status, _, answer = ask()
        assert (status, answer["error"]["code"]) == (502, "upstream_error"), (group, answer)
        over.add(f"sk-good-{group}-beside", group=group)
        assert [ask()[0] for _ in range(4)] == [200] * 4


def test_a_certificate_that_nobody_has_signed_is_refused(over, tmp_path):
    # Made for this test alone; it is good for nothing but being refused.
    pem = tmp_path / "pem"
    assert os.system(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {pem}.key -out {pem} -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null") == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, f"{pem}.key")
    seen = []

    def serve(connection):
        with context.wrap_socket(connection, server_side=True) as tls:
            seen.append(tls.recv(65536))

    with listening(serve) as port:
        ask = in_group(over, "unsigned", "sk-good-unsigned", customEndpoint=f"https://localhost:{port}/v1")
        status, _, answer = ask()
    assert (status, answer["error"]["code"]) == (502, "upstream_error"), answer
    assert "TLS" in answer["error"]["message"]
    assert seen == [], "no key was sent"


def test_a_slow_head_and_a_slow_body_are_waited_for(over):
    ask = in_group(over, "slow", "sk-slowhead-1")
    assert ask()[0] == 200
    ask = in_group(over, "slower", "sk-slowbody-1")
    status, _, answer = ask()
    assert status == 200 and answer["choices"][0]["message"]["content"] == "fine"


@pytest.mark.parametrize("count", range(EVENTS))
def test_a_stream_that_is_cut_never_looks_whole(over, count):
    in_group(over, f"cut{count}", f"sk-cut-{count}-1")
    head, body, whole = raw(over, f"/cut{count}/v1/chat/completions", {**CHAT, "stream": True})
    # Where nothing came behind the head, the host may close the connection before it has written the head.
    assert (" 200 " in head or (count == 0 and head == "")) and not whole and b"[DONE]" not in body
    assert body.count(b"data: ") == count, "what came before the cut arrived, and nothing twice"


def test_a_stream_that_is_cut_at_once_gives_what_the_host_hands_on(over):
    for count in range(EVENTS):
        in_group(over, f"once{count}", f"sk-cutatonce-{count}-1")
        for _ in range(5):
            _, body, whole = raw(over, f"/once{count}/v1/chat/completions", {**CHAT, "stream": True})
            got = body.count(b"data: ")
            assert not whole and b"[DONE]" not in body
            # What passes from host to host is the host's to write; what the component hands on, it gives the time for.
            assert got == count if "wasi02" in MANIFEST.name else got <= count


@pytest.mark.parametrize("fault", ["stall", "cutinside", "garbagechunk"])
def test_a_stream_that_stops_inside_never_looks_whole(over, fault):
    in_group(over, fault, f"sk-{fault}-1")
    started = time.monotonic()
    head, body, whole = raw(over, f"/{fault}/v1/chat/completions", {**CHAT, "stream": True})
    assert " 200 " in head and not whole and b"[DONE]" not in body and time.monotonic() - started < 8


def test_a_wrong_content_length_is_never_a_whole_answer(over):
    in_group(over, "tooshort", "sk-tooshort-1")
    head, body, _ = raw(over, "/tooshort/v1/chat/completions", CHAT)
    assert " 200 " in head and "content-length: 100000" in head and len(body) < 100_000
    in_group(over, "toolong", "sk-toolong-1")
    head, body, _ = raw(over, "/toolong/v1/chat/completions", CHAT)
    assert " 200 " in head and len(body) == 10, "what is beyond the length is of nobody's answer"


def test_a_large_event_and_a_compressed_answer_come_as_they_are(over):
    ask = in_group(over, "bigevent", "sk-bigevent-1")
    status, _, text = ask({**CHAT, "stream": True})
    assert status == 200 and len(text) > 1_000_000 and text.endswith("data: [DONE]\n\n")
    in_group(over, "gzipped", "sk-gzipped-1")
    head, body, _ = raw(over, "/gzipped/v1/chat/completions", CHAT)
    assert " 200 " in head and "content-encoding: gzip" in head and body.startswith(b"\x1f\x8b")


def test_an_endless_stream_ends_with_its_client(over, scripted):
    in_group(over, "endless", "sk-endless-1")
    data = json.dumps({**CHAT, "stream": True}).encode()
    open_before = scripted.open
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", over.port), timeout=10) as connection:
            connection.sendall(f"POST /endless/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ACCESS_KEY}\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
            got = 0
            while got < 50_000:
                got += len(connection.recv(65536))
    for _ in range(50):
        if scripted.open <= open_before:
            break
        time.sleep(0.1)
    assert scripted.open <= open_before, "upstream calls of clients that are gone go on"


def test_a_redirect_leads_nowhere(over, scripted):
    ask = in_group(over, "redirects", "sk-redirect-1")
    assert ask()[0] == 502
    assert not [request for request in scripted.requests if request.target == "/elsewhere"]


# Storage.


def states(keystorm):
    return {key["api_key"]: key for key in keystorm.admin("GET", "/api/keys")[2]["keys"]}


def database(keystorm):
    return sqlite3.connect(keystorm.state / "sqlite_db.db", timeout=20, isolation_level=None)


def test_a_database_that_is_locked_stops_no_client(keystorm):
    keystorm.add("sk-good-1")
    assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200
    time.sleep(1)
    with contextlib.closing(database(keystorm)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        for _ in range(50):
            assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200
        assert time.monotonic() - started < 4, "nobody waits for the lock"
        other.execute("ROLLBACK")
    eventually(lambda: keystorm.counted() >= 51)
    assert keystorm.counted() == 51, "what was counted meanwhile is not lost"


def test_a_database_that_cannot_be_written_stops_no_client(keystorm):
    keystorm.stop()

    def without_privilege():
        # Root may write what it may not: CAP_DAC_OVERRIDE, dropped from what the runner can have (PR_CAPBSET_DROP).
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)

    keystorm.start(preexec_fn=without_privilege)
    keystorm.add("sk-good-1")
    assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200
    time.sleep(1.2)
    files = list(keystorm.state.glob("sqlite_db.db*"))
    for file in files:
        file.chmod(0o444)
    for _ in range(20):
        assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200
    status, _, answer = keystorm.admin("POST", "/api/keys", {"keys": ["sk-good-2"], "apiType": "openai"})
    assert (status, answer["error"]["code"]) == (503, "database_unavailable"), answer
    assert "readonly" in answer["error"]["message"]
    # SQLite makes its side files anew, as the database is: read-only until they are told otherwise too.
    for file in keystorm.state.glob("sqlite_db.db*"):
        file.chmod(0o644)
    # And it shares what a process knows of a file until its last connection from before is closed.
    again = {"keys": ["sk-good-2"], "apiType": "openai"}
    deadline = time.monotonic() + 10
    while keystorm.admin("POST", "/api/keys", again)[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(1)
    assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200
    # An instance that serves one request takes with it what it could not write.
    least = 2 if "wasi02" in MANIFEST.name else 22
    eventually(lambda: keystorm.counted() >= least)
    assert least == 2 or keystorm.counted() == least, "what was counted meanwhile is not lost"


def test_a_full_disk_stops_no_client(keystorm):
    keystorm.stop()
    # Python ignores the signal that a file's largest size is reached; the runner takes that over and sees the error.
    keystorm.start(restore_signals=False)
    keystorm.add("sk-good-1")
    assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200
    time.sleep(1.2)
    largest = max(file.stat().st_size for file in keystorm.state.glob("sqlite_db.db*"))
    resource.prlimit(keystorm.process.pid, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    many = {"keys": [f"sk-bulk-{number:010}" for number in range(20_000)], "apiType": "openai"}
    status, _, answer = keystorm.admin("POST", "/api/keys", many)
    assert (status, answer["error"]["code"]) == (503, "database_unavailable"), answer
    for _ in range(20):
        assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200
    resource.prlimit(keystorm.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert keystorm.admin("GET", "/api/keys")[2]["total"] == 1, "nothing half-done"
    assert keystorm.add(*many["keys"][:10])["added"] == 10
    eventually(lambda: keystorm.counted() >= 21)
    assert keystorm.counted() == 21
    with contextlib.closing(database(keystorm)) as check:
        assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "absent"])
def test_a_database_that_is_damaged_is_an_error_and_no_crash(keystorm, damage):
    keystorm.add("sk-good-1")
    keystorm.stop()
    file = keystorm.state / "sqlite_db.db"
    for other in keystorm.state.glob("sqlite_db.db-*"):
        other.unlink()
    if damage == "garbage":
        file.write_bytes(b"this is no database" * 4096)
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:8192])
    else:
        file.unlink()
    keystorm.start()
    for _ in range(3):
        status, _, answer = keystorm.client("POST", "/v1/chat/completions", CHAT)
        assert status == 503 and answer["error"]["code"] in ("database_unavailable", "no_available_keys"), answer
        status, _, answer = keystorm.admin("GET", "/api/keys")
        if damage == "absent":
            assert (status, answer["total"]) == (200, 0), "a new database is made"
        else:
            assert (status, answer["error"]["code"]) == (503, "database_unavailable"), answer
        assert call("GET", f"{keystorm.url}/healthz")[0] == 200
        assert call("GET", f"{keystorm.url}/readyz")[0] == 503
    assert "An instance has failed" not in keystorm.log.read_text()


def test_a_key_value_store_that_fails_stops_no_client(keystorm):
    keystorm.add("sk-good-1")
    with contextlib.closing(sqlite3.connect(keystorm.state / "sqlite_key_value.db", timeout=20)) as store:
        store.execute("ALTER TABLE spin_key_value RENAME TO gone")
        for _ in range(5):
            assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200
        for status, _, answer in (keystorm.admin("GET", "/api/keys"), call("POST", f"{keystorm.url}/api/login", {"key": ADMIN_KEY})):
            assert (status, answer["error"]["code"]) == (503, "database_unavailable"), "no throttle, no entry"
        store.execute("ALTER TABLE gone RENAME TO spin_key_value")
    assert keystorm.admin("GET", "/api/keys")[0] == 200


def test_variables_that_are_missing_or_wrong_are_an_answer_and_no_crash(scripted, tmp_path):
    wrong = {
        "auth_key": "a key",
        "max_attempts": "-1",
        "pool_ttl_ms": "soon",
        "openai_base_url": "ftp://user@host",
        "cors_allow_origin": "a, b",
        "allow_private_endpoints": "perhaps",
        "selection": "\u2603",
        "encryption_key": "\x7f",
    }
    keystorm = KeyStorm(scripted, tmp_path / "state", **wrong)
    try:
        for method, path in [("POST", "/v1/chat/completions"), ("GET", "/api/keys"), ("GET", "/readyz"), ("POST", "/v1beta/models/m:generateContent")]:
            status, _, answer = call(method, f"{keystorm.url}{path}", CHAT if method == "POST" else None)
            assert status == 503, answer
            missing = [name for name in wrong if name not in answer["error"]["message"]]
            assert missing == [], answer
            assert "a key" not in answer["error"]["message"].split("keystorm")[0].replace("a key of", ""), "no value is quoted"
        assert "An instance has failed" not in keystorm.log.read_text()
    finally:
        keystorm.stop()
    # Empty is as good as unset.
    keystorm = KeyStorm(scripted, tmp_path / "empty", **{name: "" for name in wrong if name not in ("auth_key", "openai_base_url")})
    try:
        assert keystorm.client("GET", "/v1/models")[0] == 503, "no keys yet"
        assert keystorm.admin("GET", "/api/keys")[0] == 200
    finally:
        keystorm.stop()


def test_nothing_acknowledged_is_lost_when_it_is_killed(keystorm, upstream):
    """10,000 operations of all kinds from eight threads, while the runner is killed and started again."""
    rng = random.Random(11)
    expected, maybe, lock = {}, set(), threading.Lock()
    stop, kills, done = threading.Event(), [], [0]
    chats = []
    keystorm.add("sk-good-base")

    def operations(worker):
        rng = random.Random(worker)
        number = 0
        mine = []
        while not stop.is_set():
            number += 1
            kind = rng.choices(["chat", "add", "delete", "change", "list"], [70, 12, 5, 8, 5])[0]
            key = f"sk-kill-{worker}-{number:06}"
            try:
                if kind == "chat":
                    if keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200:
                        with lock:
                            chats.append(time.monotonic())
                elif kind == "list":
                    keystorm.admin("GET", "/api/keys?mask=true&pageSize=5&page=1")
                else:
                    if kind == "add":
                        target, body, method = key, {"keys": [key], "apiType": "openai", "enabled": None}, "POST"
                        body.pop("enabled")
                    elif not mine:
                        continue
                    elif kind == "delete":
                        target, method = mine.pop(rng.randrange(len(mine))), "DELETE"
                        body = {"keys": [target]}
                    else:
                        target, method = rng.choice(mine), "PATCH"
                        body = {"keys": [target], "set": {"note": f"note {number}"}}
                    with lock:
                        maybe.add(target)
                    if keystorm.admin(method, "/api/keys", body)[0] == 200:
                        with lock:
                            maybe.discard(target)
                            if kind == "add":
                                expected[target] = ""
                                mine.append(target)
                            elif kind == "delete":
                                expected.pop(target, None)
                            else:
                                expected[target] = f"note {number}"
                    elif kind == "delete":
                        mine.append(target)
                with lock:
                    done[0] += 1
            except OSError:
                time.sleep(0.02)

    workers = [threading.Thread(target=operations, args=(worker,)) for worker in range(8)]
    for worker in workers:
        worker.start()
    while done[0] < 10_000:
        time.sleep(rng.uniform(0.5, 3.0))
        keystorm.stop(signal.SIGKILL)
        kills.append(time.monotonic())
        keystorm.start()
    stop.set()
    for worker in workers:
        worker.join()
    time.sleep(2.5)
    found = {key: row["note"] for key, row in states(keystorm).items() if key.startswith("sk-kill-")}
    wrong = {key: (note, found.get(key)) for key, note in expected.items() if key not in maybe and found.get(key) != note}
    extra = [key for key in found if key not in expected and key not in maybe]
    requests = counted_of_usage(keystorm)
    calls = sum(upstream.calls().values())
    risky = sum(1 for moment in chats if any(0 <= kill - moment < 1.2 for kill in kills))
    print(f"operations {done[0]}, kills {len(kills)}, keys acknowledged {len(expected)}, in doubt {len(maybe)}, lost {len(wrong)}, unasked {len(extra)}, upstream calls {calls}, counted {requests}, in the last second before a kill {risky}")
    assert wrong == {} and extra == []
    assert requests <= calls and requests + risky + 16 * len(kills) >= calls
    with contextlib.closing(database(keystorm)) as check:
        assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def counted_of_usage(keystorm):
    with contextlib.closing(database(keystorm)) as check:
        return check.execute("SELECT COALESCE(SUM(requests), 0) FROM usage").fetchone()[0]


# The end.


def test_what_is_under_way_finishes_and_what_is_new_is_refused(keystorm, upstream):
    slow = Scripted()
    keystorm.stop()
    keystorm.variables.update(openai_base_url=f"{slow.url}/v1", idle_timeout_ms="5000")
    keystorm.start()
    try:
        keystorm.add("sk-slowbody-1")
        got = []
        asked = threading.Thread(target=lambda: got.append(keystorm.client("POST", "/v1/chat/completions", CHAT)))
        asked.start()
        with socket.create_connection(("127.0.0.1", keystorm.port)) as idle:
            while not slow.requests:
                time.sleep(0.01)
            time.sleep(0.1)
            keystorm.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", keystorm.port))
            idle.settimeout(5)
            assert idle.recv(1) == b"", "an idle connection is closed"
        assert keystorm.process.wait(timeout=15) == 0
        asked.join()
        assert got[0][0] == 200 and got[0][2]["choices"], "what was under way came whole"
    finally:
        slow.stop()


def test_what_does_not_end_in_time_is_cut_off(keystorm):
    slow = Scripted()
    keystorm.stop()
    keystorm.variables.update(openai_base_url=f"{slow.url}/v1")
    keystorm.start()
    try:
        keystorm.add("sk-endless-1")
        threading.Thread(target=lambda: raw(keystorm, "/v1/chat/completions", {**CHAT, "stream": True}, timeout=20), daemon=True).start()
        while not slow.requests:
            time.sleep(0.01)
        started = time.monotonic()
        assert keystorm.stop() == 0
        assert 8 < time.monotonic() - started < 14
    finally:
        slow.stop()
