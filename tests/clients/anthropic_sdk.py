"""Anthropic's Python SDK against a running demo; `tests/clients/run` installs it and starts the demo.

    python tests/clients/anthropic_sdk.py BASE_URL KEY

The base URL has no `/v1`: this SDK adds it.
"""

import asyncio
import sys

import anthropic

TASK = "How is the weather in Oslo? Send a mail about it."
RESULTS = {"get_weather": "3 degrees and rain", "send_mail": "sent as number 17"}


def user(text):
    return [{"role": "user", "content": text}]


def ask(text, **more):
    return {"model": "qwen3-max", "max_tokens": 1000, "messages": user(text), **more}


def tool(name, **properties):
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return {"name": name, "description": f"Does what {name} says.", "input_schema": schema}


TOOLS = [tool("get_weather", city="string"), tool("send_mail", subject="string", urgent="boolean")]


def messages(client):
    whole = client.messages.create(**ask("echo: grüße 你好 🙂"))
    assert whole.content[0].text == "grüße 你好 🙂", whole
    assert whole.stop_reason == "end_turn" and whole.usage.input_tokens > 0 and whole.usage.output_tokens > 0
    assert whole._request_id

    with client.messages.stream(**ask("echo: one two")) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "one two" and final.stop_reason == "end_turn", final
    assert final.usage.output_tokens > 0, final

    thinking = {"type": "enabled", "budget_tokens": 2000}
    thought = client.messages.create(**ask("Hello", thinking=thinking))
    assert [block.type for block in thought.content] == ["thinking", "text"], thought
    with client.messages.stream(**ask("Hello", thinking=thinking)) as stream:
        streamed = stream.get_final_message()
    assert [block.type for block in streamed.content] == ["thinking", "text"], streamed
    assert streamed.content[0].signature

    cut = client.messages.create(**ask("echo: one END two", stop_sequences=["END"]))
    assert (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", "END"), cut


def tools(client, stream, thinking):
    """A loop of two tools: each is called, and the answer quotes the last result."""
    history, called = user(TASK), []
    for _ in range(5):
        asked = dict(model="qwen3-max", max_tokens=1000, messages=history, tools=TOOLS, thinking=thinking)
        if stream:
            with client.messages.stream(**asked) as events:
                for _ in events:
                    pass
                message = events.get_final_message()
        else:
            message = client.messages.create(**asked)
        calls = [block for block in message.content if block.type == "tool_use"]
        assert (message.stop_reason == "tool_use") == bool(calls), message
        if not calls:
            break
        results = []
        for call in calls:
            assert isinstance(call.input, dict) and call.input, call
            called.append(call.name)
            content = [{"type": "text", "text": RESULTS[call.name]}]
            results.append({"type": "tool_result", "tool_use_id": call.id, "content": content})
        history += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    assert called == ["get_weather", "send_mail"], called
    assert RESULTS["send_mail"] in message.content[-1].text, message


def tool_runner(client, stream):
    called = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Tells the weather.

        Args:
            city: Where.
        """
        called.append("get_weather")
        return RESULTS["get_weather"]

    @anthropic.beta_tool
    def send_mail(subject: str, urgent: bool = False) -> str:
        """Sends a mail.

        Args:
            subject: What it is about.
            urgent: Whether it cannot wait.
        """
        called.append("send_mail")
        return RESULTS["send_mail"]

    runner = client.beta.messages.tool_runner(**ask(TASK, tools=[get_weather, send_mail]), stream=stream)
    last = runner.until_done()
    assert called == ["get_weather", "send_mail"], called
    assert RESULTS["send_mail"] in last.content[-1].text, last


def counts(client):
    count = lambda **more: client.messages.count_tokens(model="qwen3-max", **more).input_tokens
    plain = count(messages=user("Hello"))
    assert 0 < plain < count(messages=user("Hello"), tools=TOOLS)
    assert plain < count(messages=user("Hello"), system="Answer in Latin.")


def refusals(client, base_url):
    def fails(expected, status, kind, call):
        try:
            call()
        except expected as error:
            assert (error.status_code, error.body["error"]["type"]) == (status, kind), error
        else:
            raise AssertionError(f"no {expected.__name__}")

    stranger = anthropic.Anthropic(base_url=base_url, api_key="wrong", max_retries=0)
    fails(anthropic.AuthenticationError, 401, "authentication_error", lambda: stranger.messages.create(**ask("x")))
    unknown = lambda: client.messages.create(**{**ask("x"), "model": "nope"})
    fails(anthropic.NotFoundError, 404, "not_found_error", unknown)
    empty = lambda: client.messages.create(**{**ask("x"), "messages": []})
    fails(anthropic.BadRequestError, 400, "invalid_request_error", empty)


async def many(base_url, key):
    client = anthropic.AsyncAnthropic(base_url=base_url, api_key=key)

    async def one(number: int) -> None:
        async with client.messages.stream(**ask(f"echo: number {number} ✓")) as stream:
            text = await stream.get_final_text()
        assert text == f"number {number} ✓", text

    await asyncio.gather(*[one(number) for number in range(40)])


def main(base_url: str, key: str) -> None:
    client = anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0)
    messages(client)
    for stream in [False, True]:
        for thinking in [{"type": "disabled"}, {"type": "adaptive"}, {"type": "enabled", "budget_tokens": 2000}]:
            tools(client, stream, thinking)
        tool_runner(client, stream)
    counts(client)
    refusals(client, base_url)
    asyncio.run(many(base_url, key))
    print("all good")


if __name__ == "__main__":
    main(*sys.argv[1:3])
