"""LiteLLM against a running demo, through OpenAI's and Anthropic's dialect; `tests/clients/run` installs it and starts
the demo.

    python tests/clients/litellm_client.py BASE_URL KEY
"""

import os
import sys

# Else it fetches a list of prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm  # noqa: E402

litellm.suppress_debug_info = True
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def user(text):
    return [{"role": "user", "content": text}]


def check(provider, base_url, key):
    def ask(**fields):
        return litellm.completion(
            model=f"{provider}/qwen3-max", api_base=base_url, api_key=key, num_retries=0, max_tokens=4000, **fields
        )

    answer = ask(messages=user("echo: grüße 🙂"))
    assert answer.choices[0].message.content == "grüße 🙂", (provider, answer)
    assert answer.usage.total_tokens > 1, (provider, answer)
    chunks = ask(messages=user("echo: one two"), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two", provider
    answer = ask(messages=user("How is the weather in Oslo?"), tools=[TOOL])
    assert answer.choices[0].message.tool_calls[0].function.name == "get_weather", (provider, answer)


def main():
    base_url, key = sys.argv[1:3]
    check("openai", base_url, key)
    check("anthropic", base_url.removesuffix("/v1"), key)
    print("good")


main()
