"""OpenAI's Python SDK against a running demo; `tests/clients/run` installs it and starts the demo.

    python tests/clients/openai_sdk.py BASE_URL KEY
"""

import asyncio
import json
import sys

import openai
import pydantic

TASK = "How is the weather in Oslo? Send a mail about it."
RESULTS = {"get_weather": "3 degrees and rain", "send_mail": "sent as number 17"}


class Weather(pydantic.BaseModel):
    """What the weather is like."""

    city: str
    degrees: int
    tags: list[str]


def user(text):
    return [{"role": "user", "content": text}]


def schema(**properties):
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }


FUNCTIONS = [
    {"name": "get_weather", "description": "Tells the weather.", "parameters": schema(city="string")},
    {"name": "send_mail", "description": "Sends a mail.", "parameters": schema(subject="string", body="string")},
]


def chat(client):
    create = client.chat.completions.create
    whole = create(model="qwen3-max", messages=user("echo: grüße 你好 🙂"))
    assert whole.choices[0].message.content == "grüße 你好 🙂", whole
    assert whole.choices[0].finish_reason == "stop" and whole.usage.total_tokens > 1

    thinking = create(model="qwen3-max-thinking", messages=user("Hello"))
    assert thinking.choices[0].message.reasoning_content and thinking.choices[0].message.content
    assert thinking.usage.completion_tokens_details.reasoning_tokens > 0

    text, usage = "", None
    for chunk in create(
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


def chat_tools(client, stream):
    """A loop of two tools: each is called, and the answer quotes the last result."""
    tools = [{"type": "function", "function": function} for function in FUNCTIONS]
    messages, called = user(TASK), []
    for _ in range(5):
        asked = dict(model="qwen3-max", messages=messages, tools=tools)
        if stream:
            with client.chat.completions.stream(**asked) as events:
                kinds = [event.type for event in events]
                choice = events.get_final_completion().choices[0]
            if choice.message.tool_calls:
                assert "tool_calls.function.arguments.done" in kinds, kinds
        else:
            choice = client.chat.completions.create(**asked).choices[0]
        if not choice.message.tool_calls:
            break
        assert choice.finish_reason == "tool_calls" and not choice.message.content, choice
        messages.append(choice.message)
        for call in choice.message.tool_calls:
            assert isinstance(json.loads(call.function.arguments), dict), call
            called.append(call.function.name)
            result = RESULTS[call.function.name]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    assert called == ["get_weather", "send_mail"], called
    assert choice.finish_reason == "stop" and RESULTS["send_mail"] in choice.message.content, choice


def chat_parse(client):
    asked = dict(model="qwen3-max", messages=user("How is the weather?"), response_format=Weather)
    message = client.chat.completions.parse(**asked).choices[0].message
    assert isinstance(message.parsed, Weather), message
    with client.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Weather)
    # A function of a strict schema is parsed too.
    tool = openai.pydantic_function_tool(Weather, name="note_weather")
    forced = {"type": "function", "function": {"name": "note_weather"}}
    asked = dict(model="qwen3-max", messages=user("Note it."), tools=[tool], tool_choice=forced)
    call = client.chat.completions.parse(**asked).choices[0].message.tool_calls[0]
    assert isinstance(call.function.parsed_arguments, Weather), call


def responses(client):
    whole = client.responses.create(model="qwen3-max", input="echo: grüße 你好 🙂")
    assert whole.output_text == "grüße 你好 🙂" and whole.status == "completed", whole
    assert whole.usage.input_tokens > 0 and whole.usage.output_tokens > 0
    with client.responses.stream(model="qwen3-max", input="echo: one two", reasoning={"summary": "auto"}) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == "one two" and kinds[-1] == "response.completed", kinds
    thought = client.responses.create(model="qwen3-max-thinking", input="Hello")
    assert [item.type for item in thought.output] == ["reasoning", "message"], thought
    assert thought.output[0].summary[0].text

    parsed = client.responses.parse(model="qwen3-max", input="How is the weather?", text_format=Weather)
    assert isinstance(parsed.output_parsed, Weather), parsed
    asked = dict(model="qwen3-max", input="How is the weather?", text_format=Weather)
    with client.responses.stream(**asked) as stream:
        for _ in stream:
            pass
        assert isinstance(stream.get_final_response().output_parsed, Weather)

    # Kept, continued, listed and deleted.
    first = client.responses.create(model="qwen3-max", input="echo: first")
    second = client.responses.create(model="qwen3-max", input="echo: second", previous_response_id=first.id)
    assert second.output_text == "second" and second.previous_response_id == first.id, second
    assert client.responses.retrieve(first.id).output_text == "first"
    items = [item.type for item in client.responses.input_items.list(second.id)]
    assert items == ["message"] * 3, items
    client.responses.delete(second.id)
    fails(openai.NotFoundError, 404, "response_not_found", lambda: client.responses.retrieve(second.id))
    again = lambda: client.responses.create(model="qwen3-max", input="x", previous_response_id=second.id)
    fails(openai.BadRequestError, 400, "previous_response_not_found", again)


def responses_tools(client, stream, stored):
    """The loop of two tools, with the history kept here (`stored` false) or there."""
    tools = [{"type": "function", "strict": True, **function} for function in FUNCTIONS]
    given, called, previous = user(TASK), [], openai.omit
    for _ in range(5):
        asked = dict(model="qwen3-max", input=given, tools=tools, previous_response_id=previous, store=stored)
        if stream:
            with client.responses.stream(**asked) as events:
                for _ in events:
                    pass
                response = events.get_final_response()
        else:
            response = client.responses.create(**asked)
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            break
        outputs = []
        for call in calls:
            assert isinstance(json.loads(call.arguments), dict), call
            called.append(call.name)
            outputs.append({"type": "function_call_output", "call_id": call.call_id, "output": RESULTS[call.name]})
        if stored:
            given, previous = outputs, response.id
        else:
            replayed = [item.model_dump(exclude={"parsed_arguments"}, exclude_none=True) for item in response.output]
            given = [*given, *replayed, *outputs]
    assert called == ["get_weather", "send_mail"], called
    assert RESULTS["send_mail"] in response.output_text, response


def responses_custom_tool(client):
    tools = [{"type": "custom", "name": "run_script", "description": "Runs a script."}]
    first = client.responses.create(model="qwen3-max", input="Run the script.", tools=tools)
    call = first.output[0]
    assert call.type == "custom_tool_call" and call.name == "run_script" and call.input, first
    output = [{"type": "custom_tool_call_output", "call_id": call.call_id, "output": "it said 42"}]
    asked = dict(model="qwen3-max", input=output, tools=tools, previous_response_id=first.id)
    assert "it said 42" in client.responses.create(**asked).output_text


def fails(expected, status, code, call):
    try:
        call()
    except expected as error:
        assert (error.status_code, error.code) == (status, code), error
    else:
        raise AssertionError(f"no {expected.__name__}")


def refusals(client, base_url):
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


async def many(base_url, key):
    client = openai.AsyncOpenAI(base_url=base_url, api_key=key)

    async def one(number: int) -> None:
        chunks = await client.chat.completions.create(
            model="qwen3-max", messages=user(f"echo: number {number} ✓"), stream=True
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
        assert text == f"number {number} ✓", text

    await asyncio.gather(*[one(number) for number in range(40)])


def main(base_url: str, key: str) -> None:
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0)
    ids = [model.id for model in client.models.list()]
    assert "qwen3-max" in ids and len(ids) == len(set(ids)), ids
    assert client.models.retrieve("qwen3-max-thinking").id == "qwen3-max-thinking"
    chat(client)
    for stream in [False, True]:
        chat_tools(client, stream)
        for stored in [False, True]:
            responses_tools(client, stream, stored)
    chat_parse(client)
    responses(client)
    responses_custom_tool(client)
    refusals(client, base_url)
    asyncio.run(many(base_url, key))
    print("all good")


if __name__ == "__main__":
    main(*sys.argv[1:3])
