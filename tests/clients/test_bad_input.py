"""Malformed requests as raw bytes against the real component: never a trap, never a 5xx for a client's fault, always the
documented shape, and no more memory than before."""

import asyncio
import json
import os
import pathlib
import time
from collections import Counter

import pytest

from conftest import ACCESS_KEY, ADMIN_KEY, KeyStorm, eventually
from corpus import CHAT, LIMIT, corpus, phase

# How many requests at once, and how many beside them that take their time. An instance of WASI 0.2 serves one request and counts
# as several of the 1,000 that hosts have room for: beyond about 330 they answer 500 by themselves.
AT_ONCE, SLOW_AT_ONCE = (16, 60) if "wasi02" in os.environ.get("KEYSTORM_MANIFEST", "") else (32, 200)


async def answer(port, pieces):
    """Sends the pieces; what came back and how long it took. A connection that the other side closes is an answer too."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    started = time.monotonic()
    got = b""

    async def read():
        nonlocal got
        while part := await reader.read(65536):
            got += part

    reading = asyncio.create_task(read())
    try:
        for piece in pieces:
            if isinstance(piece, float):
                if piece:
                    await asyncio.wait([reading], timeout=piece)
                else:
                    writer.write_eof()
            elif not reading.done():
                writer.write(piece)
                await writer.drain()
        await asyncio.wait_for(reading, timeout=20)
    except (ConnectionError, OSError):
        await asyncio.wait([reading], timeout=1)
    finally:
        reading.cancel()
        writer.close()
    return got, time.monotonic() - started


def parse(got):
    """Status, headers and body of the first answer."""
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1])
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    if headers.get("transfer-encoding") == "chunked":
        whole, rest = b"", body
        while rest and (size := int(rest.split(b"\r\n", 1)[0] or b"0", 16)):
            data = rest.split(b"\r\n", 1)[1]
            whole, rest = whole + data[:size], data[size + 2 :]
        body = whole
    elif "content-length" in headers:
        body = body[: int(headers["content-length"])]
    return status, headers, body


def is_documented(method, headers, body):
    """OpenAI's shape or Google's."""
    if method == "HEAD":
        return True
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    openai = {"message", "type", "param", "code"} <= set(error)
    google = {"code", "message", "status"} <= set(error)
    # What went upstream comes back in the upstream's own words, however many.
    own = headers.get("x-keystorm-attempts", "0") == "0"
    return (openai or google) and isinstance(error["message"], str) and (not own or len(error["message"]) < 3000)


def resident(process):
    lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024


def add_keys(keystorm):
    # The corpus guesses at the administrator's key. The throttle that it earns outlives a restart.
    eventually(lambda: keystorm.admin("GET", "/api/keys")[0] == 200)
    keystorm.add("sk-good-0000000000000001")
    keystorm.add("AIza" + "0" * 35, apiType="gemini")
    keystorm.add("sk-good-0000000000000002", group="group")


@pytest.fixture
def limited(upstream, tmp_path):
    keystorm = KeyStorm(upstream, tmp_path / "state", max_body_bytes=str(LIMIT), body_timeout_ms="1500")
    yield keystorm
    if keystorm.process.poll() is None:
        keystorm.stop()


def test_nothing_that_a_client_sends_is_anything_but_its_own_fault(limited):
    cases = corpus()
    assert len(cases) >= 2000
    assert len({name for name, _, _ in cases}) > 2000
    before = resident(limited.process)
    failures, statuses = [], Counter()

    async def run(turn):
        gate = asyncio.Semaphore(AT_ONCE)
        slow = asyncio.Semaphore(SLOW_AT_ONCE)

        async def one(name, pieces, wire):
            waits = any(isinstance(piece, float) and piece for piece in pieces)
            async with slow if waits else gate:
                try:
                    got, seconds = await answer(limited.port, pieces)
                except TimeoutError:
                    failures.append((name, "no answer in 20 s"))
                    return
            if not got:
                statuses["closed"] += 1
                if not wire:
                    failures.append((name, "closed without an answer"))
                return
            try:
                status, headers, body = parse(got)
            except (ValueError, IndexError):
                if name.startswith("an HTTP/2"):
                    statuses["HTTP/2"] += 1
                else:
                    failures.append((name, f"unreadable answer {got[:80]!r}"))
                return
            statuses[status] += 1
            if status >= 500 and not (status == 508 or (name.startswith(("GET /readyz", "/readyz")) and status == 503)):
                failures.append((name, f"{status} {body[:300]!r}"))
            elif status >= 400 and not wire and not is_documented(name.split(" ")[0], headers, body):
                failures.append((name, f"{status} in no documented shape {body[:200]!r}"))
            elif ADMIN_KEY.encode() in got or ACCESS_KEY.encode() in got:
                failures.append((name, f"{status} quotes a credential {got[:300]!r}"))

        await asyncio.gather(*[one(*case) for case in cases if phase(case[0]) == turn])

    started = time.monotonic()
    for turn in range(3):
        add_keys(limited)
        asyncio.run(run(turn))
    seconds = time.monotonic() - started
    after = resident(limited.process)
    log = limited.log.read_text()
    print(f"{len(cases)} requests in {seconds:.0f} s, answers {dict(sorted(statuses.items(), key=str))}, resident {before} MB before and {after} MB after")
    assert failures == [], "\n".join(f"{name}: {why}" for name, why in failures[:60]) + f"\n{len(failures)} in all"
    assert limited.process.poll() is None
    assert "An instance has failed" not in log and "panicked" not in log and "A request failed" not in log, log[-3000:]
    assert ADMIN_KEY not in log and ACCESS_KEY not in log
    assert after < before + 300
    limited.stop()
    limited.start()
    add_keys(limited)
    assert limited.client("POST", "/v1/chat/completions", CHAT)[0] == 200, "and it serves as before"
