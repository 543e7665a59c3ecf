"""docs/clients.md, LangChain: whole, streamed, and with a tool."""

import os

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

at = {"base_url": os.environ["BASE_URL"], "api_key": os.environ["ACCESS_KEY"]}
chat = ChatOpenAI(model="mock-large", **at)
print(chat.invoke("hello there").content)
print("".join(chunk.content for chunk in chat.stream("hello there")))


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return city


[call] = ChatOpenAI(model="gemini-2.5-flash", **at).bind_tools([weather]).invoke('call:weather({"city":"Oslo"})').tool_calls
print(call["name"], call["args"]["city"])
print(OpenAIEmbeddings(model="mock-embed", check_embedding_ctx_length=False, **at).embed_query("x"))
