"""OpenAI's Python SDK against a running demo; `tests/sdk/run` installs it and starts the demo.

    python tests/sdk/openai_sdk.py BASE_URL KEY
"""

import asyncio
import sys

import openai


def main(base_url: str, key: str) -> None:
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0)
    user = lambda text: [{"role": "user", "content": text}]

    ids = [model.id for model in client.models.list()]
    assert "qwen3-max" in ids and len(ids) == len(set(ids)), ids
    assert client.models.retrieve("qwen3-max-thinking").id == "qwen3-max-thinking"

    whole = client.chat.completions.create(model="qwen3-max", messages=user("echo: grüße 你好 🙂"))
    assert whole.choices[0].message.content == "grüße 你好 🙂", whole
    assert whole.choices[0].finish_reason == "stop" and whole.usage.total_tokens > 1

    thinking = client.chat.completions.create(model="qwen3-max-thinking", messages=user("Hello"))
    assert thinking.choices[0].message.reasoning_content and thinking.choices[0].message.content
    assert thinking.usage.completion_tokens_details.reasoning_tokens > 0

    text, usage = "", None
    for chunk in client.chat.completions.create(
        model="qwen3-max", messages=user("echo: one two"), stream=True, stream_options={"include_usage": True}
    ):
        text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        usage = chunk.usage or usage
    assert text == "one two" and usage.total_tokens > 1, (text, usage)

    with client.chat.completions.stream(model="qwen3-max-thinking-search", messages=user("What is new?")) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "stop" and final.message.annotations, final

    def fails(expected, status, code, call):
        try:
            call()
        except expected as error:
            assert (error.status_code, error.code) == (status, code), error
        else:
            raise AssertionError(f"no {expected.__name__}")

    create = client.chat.completions.create
    stranger = openai.OpenAI(base_url=base_url, api_key="wrong", max_retries=0)
    fails(openai.AuthenticationError, 401, "invalid_api_key", stranger.models.list)
    fails(openai.NotFoundError, 404, "model_not_found", lambda: create(model="nope", messages=user("x")))
    fails(openai.BadRequestError, 400, "empty_array", lambda: create(model="qwen3-max", messages=[]))
    fails(openai.BadRequestError, 400, "unsupported_value", lambda: create(model="qwen3-max", messages=user("x"), n=2))
    long = user("word " * 1_000_000)
    fails(openai.BadRequestError, 400, "context_length_exceeded", lambda: create(model="qwen3-max", messages=long))
    large = user("x" * 60_000_000)
    fails(openai.APIStatusError, 413, "request_too_large", lambda: create(model="qwen3-max", messages=large))

    async def many() -> None:
        client = openai.AsyncOpenAI(base_url=base_url, api_key=key)

        async def one(number: int) -> None:
            chunks = await client.chat.completions.create(
                model="qwen3-max", messages=user(f"echo: number {number} ✓"), stream=True
            )
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
            assert text == f"number {number} ✓", text

        await asyncio.gather(*[one(number) for number in range(40)])

    asyncio.run(many())
    print("all good")


if __name__ == "__main__":
    main(*sys.argv[1:3])
