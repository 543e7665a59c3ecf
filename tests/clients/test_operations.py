"""What operators see: metrics, and one line of log for what went wrong."""

import http.server
import json
import re
import subprocess
import threading
import time

from conftest import ACCESS_KEY, ADMIN_KEY, KeyStorm, call, eventually

GOOD = "sk-good-0000000000000001"
LIMITED = "sk-limited-00000000000002"
DEAD = "sk-dead-000000000000000003"
CHAT = {"model": "mock-large", "messages": [{"role": "user", "content": "hello"}]}
LABEL = r'[a-z_]+="[^"\\]*"'


def scrape(keystorm, token=ADMIN_KEY):
    """The samples by name and labels. Every line is one of Prometheus' text format, every family is declared once."""
    status, headers, text = call("GET", f"{keystorm.url}/metrics", headers={"authorization": f"Bearer {token}"})
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4"), text
    samples, families = {}, {}
    for line in text.splitlines():
        if kind := re.fullmatch(r"# TYPE (\w+) (counter|gauge|histogram)", line):
            assert kind[1] not in families
            families[kind[1]] = kind[2]
        elif not line.startswith("# HELP "):
            sample = re.fullmatch(rf"(\w+?)(?:\{{((?:{LABEL},?)+)\}})? (-?[0-9.]+)", line)
            assert sample, line
            assert re.sub("_(bucket|sum|count)$", "", sample[1]) in families or sample[1] in families, line
            samples[sample[1], sample[2] or ""] = float(sample[3])
    return samples


def total(samples, name, labels=""):
    return sum(value for (found, with_labels), value in samples.items() if found == name and labels in with_labels)


def test_metrics_count_what_happened_over_all_instances(keystorm, upstream):
    keystorm.add(GOOD, LIMITED, DEAD)
    for _ in range(20):
        assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200
    for _ in range(5):
        assert keystorm.client("POST", "/v1/chat/completions", {**CHAT, "stream": True})[0] == 200
    assert keystorm.client("POST", "/v1/chat/completions", {})[0] == 400
    assert keystorm.client("GET", "/nothing")[0] == 404
    assert keystorm.client("GET", "/v1/models", key="wrong")[0] == 401
    # Instances are dropped after a second of quiet: what they counted stays. Another process adds to it.
    eventually(lambda: keystorm.counted() >= sum(upstream.calls().values()))
    time.sleep(1.5)
    other = KeyStorm(upstream, keystorm.state)
    try:
        assert other.client("POST", "/v1/chat/completions", CHAT)[0] == 200
        eventually(lambda: total(scrape(keystorm), "keystorm_requests_total", 'route="chat"') >= 27 and keystorm.counted() >= sum(upstream.calls().values()))
        samples = scrape(keystorm)
    finally:
        other.stop()
    count = lambda name, labels="": total(samples, name, labels)
    assert count("keystorm_requests_total", 'route="chat",status="200"') == 26
    assert count("keystorm_requests_total", 'route="chat",status="400"') == 1
    assert count("keystorm_requests_total", 'route="unknown",status="404"') == 1
    assert count("keystorm_requests_total", 'route="models",status="401"') == 1
    assert count("keystorm_streams_total", 'route="chat"') == 5
    # The upstream was called as often as is told, by what came of it.
    calls = upstream.calls()
    assert count("keystorm_attempts_total") == sum(calls.values())
    assert count("keystorm_attempts_total", 'outcome="success"') == calls[GOOD] == 26
    assert count("keystorm_attempts_total", 'outcome="rate_limit"') == calls.get(LIMITED, 0)
    assert count("keystorm_attempts_total", 'outcome="credential"') == calls.get(DEAD, 0)
    buckets = [value for (name, labels), value in samples.items() if name == "keystorm_request_duration_seconds_bucket" and 'route="chat"' in labels]
    assert len(buckets) == 13 and buckets == sorted(buckets)
    assert buckets[-1] == count("keystorm_request_duration_seconds_count", 'route="chat"') == 27
    assert count("keystorm_request_duration_seconds_sum", 'route="chat"') > 0
    assert count("keystorm_keys", 'state="active"') >= 1 and count("keystorm_keys") == 3
    assert count("keystorm_keys", 'state="dead"') == (1 if calls.get(DEAD) else 0)
    assert count("keystorm_database_up") == 1 and count("keystorm_build_info") == 1
    # No key, masked or not, is a label: a scraper keeps labels for years.
    assert not [labels for _, labels in samples if "sk-" in labels]


def test_metrics_need_a_credential_and_go_on_without_a_database(upstream, tmp_path):
    keystorm = KeyStorm(upstream, tmp_path / "state", metrics_token="scrapers-own")
    try:
        assert call("GET", f"{keystorm.url}/metrics")[0] == 401
        assert call("GET", f"{keystorm.url}/metrics", headers={"authorization": f"Bearer {ACCESS_KEY}"})[0] == 401
        assert total(scrape(keystorm, "scrapers-own"), "keystorm_database_up") == 1
        assert call("GET", f"{keystorm.url}/api/keys", headers={"authorization": "Bearer scrapers-own"})[0] == 401
    finally:
        keystorm.stop()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sqlite_db.db").write_bytes(b"this is no database" * 100)
    keystorm = KeyStorm(upstream, broken)
    try:
        assert total(scrape(keystorm), "keystorm_database_up") == 0
    finally:
        keystorm.stop()


class Logged(KeyStorm):
    """Keeps what it logs."""

    def start(self):
        popen, self.lines = subprocess.Popen, []
        subprocess.Popen = lambda *arguments, **more: popen(*arguments, **{**more, "stderr": subprocess.PIPE, "text": True})
        try:
            super().start()
        finally:
            subprocess.Popen = popen
        threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True).start()

    def told(self, event):
        time.sleep(0.2)
        found = [line.strip() for line in self.lines if f"event={event} " in line]
        return [dict(re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line)) for line in found]


def test_the_log_tells_what_went_wrong_and_no_secret(upstream, tmp_path):
    keystorm = Logged(upstream, tmp_path / "state")
    try:
        keystorm.add(GOOD)
        keystorm.client("POST", "/v1/chat/completions", CHAT)
        assert keystorm.told("request") == []
        headers = {"authorization": f"Bearer {ACCESS_KEY}", "x-request-id": "mine-7", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        call("POST", f"{keystorm.url}/v1/chat/completions?key=in-the-query", {}, headers)
        [line] = keystorm.told("request")
        assert line["request_id"] == "mine-7" and line["status"] == "400" and line["level"] == "warn"
        assert line["method"] == "POST" and line["path"] == '"/v1/chat/completions"' and line["client"] == "127.0.0.1"
        assert line["trace"] == "0af7651916cd43dd8448eb211c80319c" and re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line["at"])
        keystorm.add(DEAD, priority=-1)
        time.sleep(0.3)
        assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200
        assert keystorm.told("request")[-1]["attempts"] == "2"
        [died] = keystorm.told("key_dead")
        assert died["rule"] == "O1"
        text = "".join(keystorm.lines)
        assert not [secret for secret in (GOOD, DEAD, ACCESS_KEY, ADMIN_KEY, "in-the-query") if secret in text]
        keystorm.stop()
        for told, lines in (("all", 2), ("none", 0)):
            keystorm.variables["log_requests"] = told
            keystorm.start()
            keystorm.client("POST", "/v1/chat/completions", CHAT)
            keystorm.client("GET", "/nothing")
            assert len(keystorm.told("request")) == lines
            keystorm.stop()
        keystorm.start()
    finally:
        keystorm.stop()


def test_traces_are_passed_on(tmp_path):
    seen = {}

    class Upstream(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            seen.update({name.lower(): value for name, value in self.headers.items()})
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps({"id": "1", "object": "chat.completion", "choices": []}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    keystorm = KeyStorm(server, tmp_path / "state")
    try:
        keystorm.add(GOOD)
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        headers = {"authorization": f"Bearer {ACCESS_KEY}", "traceparent": trace, "tracestate": "own=1", "baggage": "user=1"}
        assert call("POST", f"{keystorm.url}/v1/chat/completions", CHAT, headers)[0] == 200
        assert seen["traceparent"] == trace
        assert "tracestate" not in seen and "baggage" not in seen
    finally:
        keystorm.stop()
        server.shutdown()
