"""Anthropic's official Python SDK against a running demo.

    cargo run --release -- demo &        # prints the base URL and the key
    pip install anthropic
    python tests/sdk/anthropic_sdk.py http://127.0.0.1:8000 KEY

Not part of `cargo test`, which needs no network and no other language. The base URL has no `/v1`: this SDK adds it.
"""

import asyncio
import sys

import anthropic


def main(base_url: str, key: str) -> None:
    client = anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0)
    user = lambda text: [{"role": "user", "content": text}]
    ask = lambda text, **more: {"model": "qwen3-max", "max_tokens": 1000, "messages": user(text), **more}

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

    tools = [{"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}}]
    plain = client.messages.count_tokens(model="qwen3-max", messages=user("Hello")).input_tokens
    counted = client.messages.count_tokens(model="qwen3-max", messages=user("Hello"), tools=tools).input_tokens
    assert 0 < plain < counted, (plain, counted)

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

    async def many() -> None:
        client = anthropic.AsyncAnthropic(base_url=base_url, api_key=key)

        async def one(number: int) -> None:
            async with client.messages.stream(**ask(f"echo: number {number} ✓")) as stream:
                text = await stream.get_final_text()
            assert text == f"number {number} ✓", text

        await asyncio.gather(*[one(number) for number in range(40)])

    asyncio.run(many())
    print("all good")


if __name__ == "__main__":
    main(*sys.argv[1:3])
