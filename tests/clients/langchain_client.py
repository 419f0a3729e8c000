"""LangChain against a running demo; `tests/clients/run` installs it and starts the demo.

    python tests/clients/langchain_client.py BASE_URL KEY
"""

import sys

import pydantic
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

WEATHER = "3 degrees and rain"


class Weather(pydantic.BaseModel):
    """What the weather is like."""

    city: str
    degrees: int


def get_weather(city: str) -> str:
    """Tells the weather of a city."""
    return WEATHER


def text(message):
    content = message.content
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def check(name, model):
    assert text(model.invoke("echo: grüße 🙂")) == "grüße 🙂", name
    assert "".join(text(chunk) for chunk in model.stream("echo: one two")) == "one two", name
    agent = create_agent(model, tools=[get_weather])
    messages = agent.invoke({"messages": [("user", "How is the weather in Oslo?")]})["messages"]
    assert any(message.type == "tool" and WEATHER in message.content for message in messages), (name, messages)
    assert WEATHER in text(messages[-1]), (name, messages[-1])
    told = model.with_structured_output(Weather).invoke("How is the weather in Oslo?")
    assert isinstance(told, Weather), (name, told)


def main():
    base_url, key = sys.argv[1:3]
    check("chat", ChatOpenAI(base_url=base_url, api_key=key, model="qwen3-max", max_retries=0))
    check(
        "responses",
        ChatOpenAI(base_url=base_url, api_key=key, model="qwen3-max", max_retries=0, use_responses_api=True),
    )
    check(
        "messages",
        ChatAnthropic(base_url=base_url.removesuffix("/v1"), api_key=key, model="qwen3-max", max_retries=0),
    )
    print("good")


main()
