"""docs/clients.md, LlamaIndex: whole and streamed."""

import os

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

chat = OpenAILike(model="mock-large", api_base=os.environ["BASE_URL"], api_key=os.environ["ACCESS_KEY"], is_chat_model=True)
messages = [ChatMessage(role="user", content="hello there")]
print(chat.chat(messages).message.content)
print("".join(chunk.delta or "" for chunk in chat.stream_chat(messages)))
