"""Programs that others have written, set up as docs/clients.md says, in an environment of their own."""

import os
import subprocess

import pytest

from conftest import ACCESS_KEY, ROOT

PYTHON = ROOT / "target/venv-frameworks/bin"
SAID = "You said: hello there"


@pytest.fixture
def served(keystorm):
    keystorm.add("sk-good-0000000000000001", "sk-limited-00000000000002", "sk-dead-000000000000000003")
    keystorm.add(f"AIza{'0' * 35}", apiType="gemini")
    return keystorm


def run(served, *command, folder=None):
    environment = {
        **os.environ,
        "BASE_URL": f"{served.url}/v1",
        "ACCESS_KEY": ACCESS_KEY,
        "HOME": str(folder or served.state),
        # What these programs report home stays here.
        "LANGCHAIN_TRACING_V2": "false",
        "NLTK_DATA": str(folder or served.state),
    }
    done = subprocess.run(command, env=environment, cwd=folder or served.state, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_langchain(served):
    assert run(served, PYTHON / "python", ROOT / "tests/frameworks/langchain_chat.py") == [SAID, SAID, "weather Oslo", "[0.6, 0.8]"]


def test_llama_index(served):
    assert run(served, PYTHON / "python", ROOT / "tests/frameworks/llama_index_chat.py") == [SAID] * 2


def test_the_command_line_program_llm(served, tmp_path):
    folder = tmp_path / "llm"
    folder.mkdir()
    (folder / "extra-openai-models.yaml").write_text(
        f"- model_id: keystorm\n  model_name: mock-large\n  api_base: {served.url}/v1\n  api_key_name: keystorm\n"
    )
    os.environ["LLM_USER_PATH"] = str(folder)
    try:
        for more in ([], ["--no-stream"]):
            assert run(served, PYTHON / "llm", "-m", "keystorm", "--key", ACCESS_KEY, *more, "hello there", folder=tmp_path) == [SAID]
    finally:
        del os.environ["LLM_USER_PATH"]


def test_curl(served):
    body = '{"model": "mock-large", "messages": [{"role": "user", "content": "hello there"}]}'
    [answer] = run(served, "curl", "-sS", f"{served.url}/v1/chat/completions", "-H", f"authorization: Bearer {ACCESS_KEY}", "-H", "content-type: application/json", "-d", body)
    assert SAID in answer
