"""The official Python SDKs, with the settings they have by default, in front of a server whose only account rests for
hours: each call is one request, and fails at once with the reason. `tests/clients/run` starts that server.

    python tests/clients/rest_sdk.py BASE_URL KEY
"""

import sys

import anthropic
import openai


def check(module, client, ask):
    for _ in range(2):
        client.requests.clear()
        try:
            ask(client.sdk)
        except module.RateLimitError as error:
            assert len(client.requests) == 1, client.requests
            headers = error.response.headers
            assert headers["x-should-retry"] == "false" and int(headers["retry-after"]) > 60, headers
            assert "quota" in str(error), error
        else:
            raise AssertionError("it answers")


class Counted:
    """An SDK whose requests are counted."""

    def __init__(self, module, make, **fields):
        self.requests = []
        http = module.DefaultHttpxClient(event_hooks={"request": [self.requests.append]})
        self.sdk = make(http_client=http, **fields)


def main():
    base_url, key = sys.argv[1:3]
    messages = [{"role": "user", "content": "Hello"}]
    client = Counted(openai, openai.OpenAI, base_url=base_url, api_key=key)
    check(openai, client, lambda sdk: sdk.chat.completions.create(model="qwen3-max", messages=messages))
    check(openai, client, lambda sdk: sdk.responses.create(model="qwen3-max", input="Hello"))
    client = Counted(anthropic, anthropic.Anthropic, base_url=base_url.removesuffix("/v1"), api_key=key)
    check(anthropic, client, lambda sdk: sdk.messages.create(model="qwen3-max", max_tokens=99, messages=messages))
    print("good")


main()
