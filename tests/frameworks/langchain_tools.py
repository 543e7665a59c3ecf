"""LangChain's ChatOpenAI over KeyStorm: `langchain_tools.py URL KEY MODEL`."""

import sys

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def weather(city: str) -> str:
    """Tells the weather of a city."""
    return f"sun in {city}"


url, key, name = sys.argv[1:]
model = ChatOpenAI(base_url=f"{url}/v1", api_key=key, model=name, max_retries=0).bind_tools([weather])
messages = [("user", 'call:weather({"city":"Rome"})')]
answer = model.invoke(messages)
(call,) = answer.tool_calls
assert call["name"] == "weather" and call["args"] == {"city": "Rome"}, answer
final = model.invoke([*messages, answer, weather.invoke(call)])
assert final.content == 'Results: weather -> {"output":"sun in Rome"}', final
assert final.usage_metadata["total_tokens"] == 10, final
streamed = "".join(chunk.content for chunk in model.stream("hi there"))
assert streamed == "You said: hi there", streamed
print("tools loop, usage and stream are right")
