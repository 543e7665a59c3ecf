"""The administrator's routes, through the real component."""

import json
import time
import urllib.error
import urllib.request

import pytest

from conftest import ADMIN_KEY, call, eventually

GOOD = "sk-good-0000000000000001"
DEAD = "sk-dead-000000000000000003"
LIMITED = "sk-limited-00000000000002"
CHAT = {"model": "mock-large", "messages": [{"role": "user", "content": "hello"}]}


def raw(keystorm, method, path, data=None, **headers):
    """A call whose body is no JSON."""
    headers = {"authorization": f"Bearer {ADMIN_KEY}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(f"{keystorm.url}{path}", data=data, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


def states(keystorm):
    return {key["api_key"]: key["status"] for key in keystorm.admin("GET", "/api/keys")[2]["keys"]}


def test_a_check_tells_keys_apart_and_brings_them_back(keystorm, upstream):
    keystorm.add(GOOD, DEAD, LIMITED)
    status, _, answer = keystorm.admin("GET", "/api/keys/check")
    assert status == 200 and answer["cursor"] is None
    assert [found["result"] for found in answer["results"]] == ["valid", "invalid", "limited"]
    assert answer["counts"] == {"valid": 1, "invalid": 1, "limited": 1, "unknown": 0}
    assert states(keystorm) == {GOOD: "active", DEAD: "dead", LIMITED: "active"}, "a list that is limited says nothing of quotas"
    upstream.fault(**{DEAD.replace("-", "_"): "good"})
    keystorm.admin("POST", "/api/keys/check", {"filter": {"status": "dead"}})
    assert states(keystorm)[DEAD] == "active"
    upstream.fault(**{DEAD.replace("-", "_"): "dead"})
    keystorm.admin("POST", "/api/keys/check", {"keys": [DEAD], "delete_invalid": True})
    assert DEAD not in states(keystorm)
    assert upstream.calls()[GOOD] == 1, "only the keys that are meant are asked"


def test_a_provider_that_fails_leaves_the_state_alone(keystorm):
    keystorm.add("sk-broken-000000000000001")
    assert keystorm.admin("GET", "/api/keys/check")[2]["results"][0]["result"] == "unknown"
    assert list(states(keystorm).values()) == ["active"]


def test_progress_is_streamed_and_goes_on_at_a_cursor(keystorm):
    keystorm.add(*[f"sk-many-000000000000000{number:03}" for number in range(150)])
    text = raw(keystorm, "POST", "/api/keys/check", b"{}", content_type="application/json", accept="text/event-stream")
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    assert [event["event"] for event in events] == ["start"] + ["progress"] * 150 + ["end"]
    found = [json.loads(event["data"]) for event in events]
    assert found.pop(0)["total"] == 150
    del events[0]
    assert [progress["done"] for progress in found[:-1]] == list(range(1, 151))
    assert found[-1] == {"cursor": None, "counts": {"valid": 150, "invalid": 0, "limited": 0, "unknown": 0}}
    rest = keystorm.admin("POST", "/api/keys/check", {"cursor": events[99]["id"]})[2]
    assert [one["id"] for one in rest["results"]] == [one["id"] for one in found[100:150]]
    assert [(one["done"], one["total"]) for one in rest["results"]][-1] == (50, 50)


def test_a_check_that_nobody_listens_to_stops_and_what_it_found_is_kept(keystorm, upstream):
    keystorm.add(*[f"sk-many-{'dead' if number % 10 == 0 else 'good'}-00000000000000{number:04}" for number in range(1000)])
    request = urllib.request.Request(
        f"{keystorm.url}/api/keys/check", b"{}", method="POST",
        headers={"authorization": f"Bearer {ADMIN_KEY}", "content-type": "application/json", "accept": "text/event-stream"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        for _ in range(40):
            line = answer.readline().decode()
            if line.startswith("id: "):
                cursor = line.removeprefix("id: ").strip()
    time.sleep(1)
    asked = len(upstream.calls())
    assert asked < 1000, "it went on with nobody there"
    time.sleep(1)
    assert len(upstream.calls()) == asked
    kept = [key for key in keystorm.admin("GET", "/api/keys?mask=true")[2]["keys"] if key["last_checked_at"]]
    assert kept and {key["last_result"] for key in kept} == {"valid", "invalid"}
    rest = keystorm.admin("POST", "/api/keys/check", {"cursor": cursor})[2]
    assert rest["cursor"] is None and len(upstream.calls()) == 1000
    counts = keystorm.admin("GET", "/api/keys?page=1&pageSize=1&mask=true")[2]["counts"]
    assert (counts["active"], counts["dead"]) == (900, 100)


def test_the_invalid_of_a_check_are_deleted_by_a_filter(keystorm):
    keystorm.add(DEAD, GOOD, "sk-dead-000000000000000004")
    keystorm.admin("POST", "/api/keys/check", {"keys": [DEAD]})
    time.sleep(0.01)
    started = keystorm.admin("POST", "/api/keys/check", {"keys": [GOOD, "sk-dead-000000000000000004"]})[2]["started_at"]
    chosen = {"result": "invalid", "checkedSince": started}
    assert keystorm.admin("GET", f"/api/keys?result=invalid&checkedSince={started}")[2]["total"] == 1
    assert keystorm.admin("DELETE", "/api/keys", {"filter": chosen})[2]["deleted"] == 1
    assert set(states(keystorm)) == {DEAD, GOOD}
    assert keystorm.admin("DELETE", "/api/keys", {"filter": {"result": "odd"}})[2]["error"]["param"] == "result"


def test_generating_names_its_model(keystorm):
    keystorm.add(GOOD)
    assert keystorm.admin("POST", "/api/keys/check", {"mode": "generate"})[2]["error"]["param"] == "model"
    answer = keystorm.admin("POST", "/api/keys/check", {"mode": "generate", "model": "mock-large"})[2]
    assert answer["results"][0]["result"] == "valid"
    keystorm.add(LIMITED)
    answer = keystorm.admin("POST", "/api/keys/check", {"keys": [LIMITED], "mode": "generate", "model": "mock-large"})[2]
    assert answer["results"][0]["result"] == "limited"
    rests = [key["rests"] for key in keystorm.admin("GET", "/api/keys")[2]["keys"]]
    assert [[rest["model"] for rest in each] for each in rests] == [[], ["mock-large"]]


def test_statistics_add_up(keystorm, upstream):
    keystorm.add(GOOD, DEAD)
    for _ in range(10):
        assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200
    eventually(lambda: keystorm.counted() >= sum(upstream.calls().values()))
    for span in ("1h", "24h", "7d", "90d"):
        stats = keystorm.admin("GET", f"/api/stats?range={span}")[2]
        assert sum(bucket["requests"] for bucket in stats["buckets"]) == sum(upstream.calls().values())
        assert sum(bucket["successes"] for bucket in stats["buckets"]) == 10
    assert [model["model"] for model in stats["models"]] == ["mock-large"]
    listed = {key["api_key"]: key for key in keystorm.admin("GET", "/api/keys?sort=-requests")[2]["keys"]}
    assert [listed[GOOD][name] for name in ("requests", "failures")] == [10, 0]
    assert sum(listed[GOOD]["usage"]) == 10 and len(listed[GOOD]["usage"]) == 24
    assert stats["faults"].get("credential", 0) == upstream.calls().get(DEAD, 0)
    assert keystorm.admin("GET", "/api/stats?range=1y")[2]["error"]["param"] == "range"


@pytest.mark.parametrize(("form", "kind"), [("json", "application/json"), ("csv", "text/csv")])
def test_what_is_exported_comes_in_again_as_it_was(keystorm, form, kind):
    keystorm.add(GOOD, group="a", note='with "quotes", commas', priority=3, weight=5, project="p")
    keystorm.add("AIza" + "0" * 35, apiType="gemini", customEndpoint="https://api.example.com/x")
    keystorm.admin("PATCH", "/api/keys", {"filter": {"group": "a"}, "set": {"enabled": False}})
    names = ["api_key", "apiType", "customEndpoint", "group", "note", "priority", "weight", "project", "status"]
    before = [[key[name] for name in names] for key in keystorm.admin("GET", "/api/keys")[2]["keys"]]
    exported = raw(keystorm, "GET", f"/api/keys/export?format={form}")
    assert keystorm.admin("DELETE", "/api/keys", {"filter": {}})[2]["deleted"] == 2
    answer = json.loads(raw(keystorm, "POST", "/api/keys/import", exported.encode(), content_type=kind))
    assert answer["added"] == 2
    assert [[key[name] for name in names] for key in keystorm.admin("GET", "/api/keys")[2]["keys"]] == before


def test_the_older_systems_json_and_plain_lists_come_in(keystorm):
    older = [{"api_key": GOOD, "status": "active", "key_group": "old", "endpoint_path": ""}, {"api_key": "AIza" + "1" * 35}]
    answer = json.loads(raw(keystorm, "POST", "/api/keys/import", json.dumps(older).encode(), content_type="application/json"))
    assert (answer["added"], answer["invalid"]) == (2, [])
    plain = f"{GOOD}\nsk-plain-00000000000000001, sk-plain-00000000000000002".encode()
    answer = json.loads(raw(keystorm, "POST", "/api/keys/import", plain, content_type="text/plain"))
    assert answer["added"] == 3, "the same key in another group is another key"
    listed = {key["api_key"]: (key["apiType"], key["group"]) for key in keystorm.admin("GET", "/api/keys?group=old")[2]["keys"]}
    assert listed == {GOOD: ("openai", "old")}
    with pytest.raises(urllib.error.HTTPError) as wrong:
        raw(keystorm, "POST", "/api/keys/import", b'{"other": 1}', content_type="application/json")
    assert wrong.value.code == 400


def test_a_list_of_plain_keys_is_an_export_too(keystorm):
    keystorm.add(GOOD, LIMITED)
    exported = raw(keystorm, "GET", "/api/keys/export?format=txt")
    assert exported.split() == [GOOD, LIMITED]
    assert keystorm.admin("DELETE", "/api/keys", {"keys": [GOOD, LIMITED]})[2]["deleted"] == 2
    assert json.loads(raw(keystorm, "POST", "/api/keys/import", exported.encode(), content_type="text/plain"))["added"] == 2
    assert set(states(keystorm)) == {GOOD, LIMITED}
    assert keystorm.admin("GET", "/api/keys/export?format=xml")[2]["error"]["param"] == "format"


def test_ten_thousand_keys_come_in_with_one_call_in_seconds(keystorm):
    many = [f"sk-bulk-{number:016}" for number in range(10_000)]
    started = time.monotonic()
    answer = keystorm.add(*many, *many[:500], "", "with a blank")
    spent = time.monotonic() - started
    assert (answer["added"], answer["duplicates"], len(answer["invalid"])) == (10_000, 500, 2)
    assert spent < 10, f"{spent:.1f} s"
    started = time.monotonic()
    page = keystorm.admin("GET", "/api/keys?page=200&pageSize=50&mask=true")[2]
    print(f"10,000 keys added in {spent:.2f} s; a page listed in {(time.monotonic() - started) * 1000:.0f} ms")
    assert page["total"] == 10_000 and len(page["keys"]) == 50
    assert keystorm.admin("PATCH", "/api/keys", {"filter": {"search": "999"}, "set": {"enabled": False}})[2]["changed"] == 19
    assert keystorm.admin("DELETE", "/api/keys", {"filter": {"status": "disabled"}})[2]["deleted"] == 19
    assert keystorm.admin("GET", "/api/keys?page=1&pageSize=1")[2]["counts"] == {"active": 9981, "cooling_down": 0, "dead": 0, "disabled": 0}


def test_a_page_of_a_hundred_thousand_keys_comes_at_once(keystorm):
    many = [f"sk-{'dead' if number % 10 == 0 else 'good'}-{number:019}" for number in range(100_000)]
    started = time.monotonic()
    assert keystorm.add(*many[:50_000])["added"] + keystorm.add(*many[50_000:], group="b", note="second half")["added"] == 100_000
    print(f"\n100,000 keys added in {time.monotonic() - started:.2f} s")

    def best(path):
        spent = []
        for _ in range(10):
            started = time.monotonic()
            status, _, answer = keystorm.admin("GET", f"/api/keys?pageSize=50&mask=true{path}")
            spent.append(time.monotonic() - started)
            assert status == 200
        print(f"{path or 'first page'}: best {min(spent) * 1000:.0f} ms, median {sorted(spent)[5] * 1000:.0f} ms, {answer['total']} in all")
        return min(spent), answer

    first, answer = best("")
    assert answer["total"] == 100_000 and first < 0.05
    assert best("&page=2000")[0] < 0.05
    for path, total in [("&group=b", 50_000), ("&search=second", 50_000), ("&search=0999", 10), ("&sort=-requests", 100_000), ("&status=dead", 0), ("&apiType=openai&sort=-last_used_at", 100_000)]:
        spent, answer = best(path)
        assert answer["total"] == total and spent < 0.5, path
    started = time.monotonic()
    assert keystorm.admin("PATCH", "/api/keys", {"filter": {"group": "b"}, "set": {"enabled": False}})[2]["changed"] == 50_000
    print(f"50,000 keys changed in {time.monotonic() - started:.2f} s")
    started = time.monotonic()
    assert keystorm.admin("DELETE", "/api/keys", {"filter": {"status": "disabled"}})[2]["deleted"] == 50_000
    print(f"50,000 keys deleted in {time.monotonic() - started:.2f} s")


def test_an_alias_stands_for_a_model(keystorm, upstream):
    keystorm.add("AIza" + "2" * 35, apiType="gemini")
    assert keystorm.client("POST", "/v1/chat/completions", {**CHAT, "model": "fast"})[0] == 503
    assert keystorm.admin("PUT", "/api/settings", {"aliases": {"fast": "gemini-2.5-flash"}})[0] == 200
    status, _, answer = keystorm.client("POST", "/v1/chat/completions", {**CHAT, "model": "fast"})
    assert (status, answer["model"]) == (200, "gemini-2.5-flash")
    shown = keystorm.admin("GET", "/api/settings")[2]
    assert shown["aliases"] == {"fast": "gemini-2.5-flash"}
    secrets = [one for one in shown["effective"] if one["secret"]]
    assert secrets and ADMIN_KEY not in str(shown)


def test_the_dry_run_says_who_would_serve(keystorm):
    keystorm.add(GOOD)
    pools = keystorm.admin("GET", "/api/route?model=mock-large")[2]["pools"]
    assert [(pool["apiType"], len(pool["keys"])) for pool in pools] == [("openai", 1)]
    keystorm.admin("PATCH", "/api/keys", {"filter": {}, "set": {"enabled": False}})
    assert keystorm.admin("GET", "/api/route?model=mock-large")[2]["pools"][0]["keys"] == []


def test_the_trail_and_the_sessions(keystorm):
    headers = call("POST", f"{keystorm.url}/api/login", {"key": ADMIN_KEY})[1]
    session = {"cookie": headers["set-cookie"].split(";")[0]}
    keystorm.add(GOOD)
    sessions = call("GET", f"{keystorm.url}/api/sessions", headers=session)[2]["sessions"]
    assert [one["current"] for one in sessions] == [True] and sessions[0]["id"] not in session["cookie"]
    assert keystorm.admin("DELETE", "/api/sessions", {"ids": [sessions[0]["id"]]})[2]["revoked"] == 1
    assert call("GET", f"{keystorm.url}/api/sessions", headers=session)[0] == 401
    events = keystorm.admin("GET", "/api/events?limit=10")[2]["events"]
    assert [event["action"] for event in events] == ["sessions_revoked", "keys_added", "login"]
    assert GOOD not in str(events)
