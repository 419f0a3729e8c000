"""LlamaIndex against a running demo; `tests/clients/run` installs it and starts the demo.

    python tests/clients/llama_index_client.py BASE_URL KEY
"""

import asyncio
import sys

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike

WEATHER = "3 degrees and rain"


def get_weather(city: str) -> str:
    """Tells the weather of a city."""
    return WEATHER


async def main():
    base_url, key = sys.argv[1:3]
    llm = OpenAILike(
        api_base=base_url,
        api_key=key,
        model="qwen3-max",
        is_chat_model=True,
        is_function_calling_model=True,
        context_window=131072,
        max_retries=0,
    )
    assert str(llm.complete("echo: grüße 🙂")) == "grüße 🙂"
    parts = [part async for part in await llm.astream_complete("echo: one two")]
    assert "".join(part.delta or "" for part in parts) == "one two", parts
    agent = FunctionAgent(tools=[get_weather], llm=llm, system_prompt="Answer briefly.")
    assert WEATHER in str(await agent.run("How is the weather in Oslo?"))
    print("good")


asyncio.run(main())
