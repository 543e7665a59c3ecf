"""Two runners that share a database on a libSQL server (a stand-in for one) and a key-value store in Redis."""

import concurrent.futures
import socket
import subprocess
import time
import urllib.request

import pytest

from conftest import ADMIN_KEY, RELEASE, KeyStorm, call, eventually, free_port, wait_for

GOOD = "sk-good-0000000000000001"
CHAT = {"model": "mock-large", "messages": [{"role": "user", "content": "hello"}]}
TOKEN = "database-token"


class Stores:
    """The servers that replicas share."""

    def __init__(self, folder):
        self.redis_port, libsql_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{libsql_port}"
        folder.mkdir()
        self.redis = subprocess.Popen(["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", folder], stdout=subprocess.DEVNULL)
        self.libsql = subprocess.Popen([RELEASE / "mock-libsql", f"127.0.0.1:{libsql_port}", folder / "shared.db", "--token", TOKEN], stdout=subprocess.DEVNULL)
        wait_for(f"{self.url}/__statements")
        while self.ask_redis("PING") != b"+PONG\r\n":
            time.sleep(0.05)
        self.config = folder / "runtime-config.toml"
        self.config.write_text(
            f'[sqlite_database.default]\ntype = "libsql"\nurl = "{self.url}"\ntoken = "{TOKEN}"\n'
            f'[key_value_store.default]\ntype = "redis"\nurl = "redis://127.0.0.1:{self.redis_port}"\n'
            "[outbound_http]\nconnection_pooling = true\n"
        )

    def ask_redis(self, command):
        try:
            with socket.create_connection(("127.0.0.1", self.redis_port), timeout=5) as connection:
                connection.sendall(command.encode() + b"\r\n")
                return connection.recv(65536)
        except OSError:
            return b""

    def expire_streams(self):
        call("POST", f"{self.url}/__expire")

    def stop(self):
        for process in (self.redis, self.libsql):
            process.kill()
            process.wait()


@pytest.fixture
def stores(tmp_path):
    stores = Stores(tmp_path / "stores")
    yield stores
    stores.stop()


@pytest.fixture
def replicas(upstream, stores, tmp_path):
    pair = [KeyStorm(upstream, tmp_path / f"replica-{number}", runtime_config=stores.config) for number in range(2)]
    yield pair
    for replica in pair:
        replica.stop()


def test_a_key_that_one_adds_serves_at_the_other(replicas):
    one, other = replicas
    assert other.client("POST", "/v1/chat/completions", CHAT)[0] == 503
    one.add(GOOD)
    # pool_ttl_ms is 100 here: what the other knows may be that old.
    took = eventually(lambda: other.client("POST", "/v1/chat/completions", CHAT)[0] == 200, 2)
    assert took < 1, took
    assert one.admin("DELETE", "/api/keys", {"keys": [GOOD]})[2]["deleted"] == 1
    assert eventually(lambda: other.client("POST", "/v1/chat/completions", CHAT)[0] == 503, 2) < 1


def test_a_rest_that_one_learns_of_holds_at_the_other(replicas, upstream):
    one, other = replicas
    key = "sk-shared-rest-0000000001"
    one.add(key, GOOD)
    upstream.fault(**{key.replace("-", "_"): "limited"})
    eventually(lambda: one.client("POST", "/v1/chat/completions", CHAT)[0] == 200 and upstream.calls().get(key), 5)
    time.sleep(1.5)
    before = upstream.calls()[key]
    for _ in range(30):
        assert other.client("POST", "/v1/chat/completions", CHAT)[0] == 200
    assert upstream.calls()[key] == before


def test_counters_add_up(replicas, upstream):
    one, other = replicas
    keys = [f"sk-count-0000000000000{number:03}" for number in range(20)]
    one.add(*keys)
    time.sleep(0.3)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: replicas[number % 2].client("POST", "/v1/chat/completions", CHAT)[0], range(200)))
    assert answers == [200] * 200
    eventually(lambda: one.counted() >= 200)
    assert one.counted() == other.counted() == sum(upstream.calls().values()) == 200


def test_a_session_of_one_is_one_of_the_other(replicas, stores):
    one, other = replicas
    _, headers, _ = call("POST", f"{one.url}/api/login", {"key": ADMIN_KEY})
    session = {"cookie": headers["set-cookie"].split(";")[0]}
    assert call("GET", f"{other.url}/api/keys", headers=session)[0] == 200
    # The store holds digests, not what the cookie says.
    cookie = session["cookie"].split("=")[1]
    assert cookie.encode() not in stores.ask_redis("KEYS *")
    assert call("POST", f"{other.url}/api/logout", headers={**session, "sec-fetch-site": "same-origin"})[0] == 200
    assert call("GET", f"{one.url}/api/keys", headers=session)[0] == 401
    # Failed sign-ins at one count at the other.
    answers = [call("POST", f"{replicas[number % 2].url}/api/login", {"key": "wrong"})[0] for number in range(7)]
    assert answers == [401] * 5 + [429] * 2


def test_streams_that_idle_and_servers_that_come_back(replicas, stores):
    one, other = replicas
    one.add(GOOD)
    for _ in range(3):
        # What an instance kept open is gone at the server: it opens another, and the caller never notices.
        stores.expire_streams()
        for replica in replicas:
            assert replica.admin("GET", "/api/keys")[0] == 200
            assert replica.client("POST", "/v1/chat/completions", CHAT)[0] == 200
    stores.expire_streams()
    assert other.add(*[f"sk-more-00000000000000{number:03}" for number in range(100)])["added"] == 100


def test_both_start_on_an_empty_database_at_once(upstream, stores, tmp_path):
    pair = [KeyStorm(upstream, tmp_path / f"first-{number}", runtime_config=stores.config) for number in range(2)]
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda number: pair[number % 2].admin("GET", "/api/keys")[0], range(16)))
        assert answers == [200] * 16
        assert pair[0].add(GOOD)["added"] + pair[1].add(GOOD)["added"] == 1
    finally:
        for replica in pair:
            replica.stop()


def test_a_wrong_token_is_told_and_not_shown(upstream, stores, tmp_path):
    config = tmp_path / "wrong.toml"
    config.write_text(stores.config.read_text().replace(TOKEN, "wrong-token"))
    replica = KeyStorm(upstream, tmp_path / "wrong", runtime_config=config)
    try:
        status, _, error = replica.admin("GET", "/api/keys")
        assert (status, error["error"]["code"]) == (503, "database_unavailable") and "401" in error["error"]["message"]
        assert "wrong-token" not in str(error)
    finally:
        replica.stop()


def test_dead_keys_are_looked_at_again_by_one_of_them(upstream, stores, tmp_path):
    dead, every = "sk-dead-000000000000000003", 2
    pair = [KeyStorm(upstream, tmp_path / f"sweep-{number}", runtime_config=stores.config, recheck_interval_s=str(every)) for number in range(2)]
    try:
        pair[0].add(GOOD, dead)
        eventually(lambda: pair[0].client("POST", "/v1/chat/completions", CHAT)[0] == 200 and upstream.calls().get(dead), 5)
        # The other replica may have read of the key before it was known to be dead, and may try it once itself.
        for _ in range(20):
            assert pair[1].client("POST", "/v1/chat/completions", CHAT)[0] == 200
            time.sleep(0.1)
        before, started = upstream.calls()[dead], time.monotonic()
        # Traffic at both all the time: each of them sees that it is time, and one takes it upon itself.
        while time.monotonic() - started < 9:
            for replica in pair:
                assert replica.client("POST", "/v1/chat/completions", CHAT)[0] == 200
            time.sleep(0.05)
        assert 2 <= upstream.calls()[dead] - before <= 9 // every + 1
    finally:
        for replica in pair:
            replica.stop()
