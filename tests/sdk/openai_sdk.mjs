// OpenAI's JavaScript SDK against a running demo; tests/sdk/run installs it and starts the demo.
//
//     node tests/sdk/openai_sdk.mjs BASE_URL KEY

import assert from "node:assert/strict";
import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const user = (content) => [{ role: "user", content }];
const create = (body) => client.chat.completions.create({ model: "qwen3-max", ...body });

assert((await client.models.list()).data.some((model) => model.id === "qwen3-max"));
assert.equal((await client.models.retrieve("qwen3-max-thinking")).id, "qwen3-max-thinking");

const whole = await create({ messages: user("echo: grüße 你好 🙂") });
assert.equal(whole.choices[0].message.content, "grüße 你好 🙂");
assert(whole.usage.total_tokens > 1);

let [text, thoughts, usage] = ["", "", null];
const chunks = await create({
  model: "qwen3-max-thinking",
  messages: user("Hello"),
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of chunks) {
  text += chunk.choices[0]?.delta?.content ?? "";
  thoughts += chunk.choices[0]?.delta?.reasoning_content ?? "";
  usage = chunk.usage ?? usage;
}
assert(text && thoughts && usage.completion_tokens_details.reasoning_tokens > 0);

const helper = client.chat.completions.stream({ model: "qwen3-max", messages: user("echo: abc") });
assert.equal((await helper.finalChatCompletion()).choices[0].message.content, "abc");

async function fails(expected, status, code, call) {
  await assert.rejects(call, (error) => error instanceof expected && error.status === status && error.code === code);
}
const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
await fails(OpenAI.AuthenticationError, 401, "invalid_api_key", () => stranger.models.list());
await fails(OpenAI.NotFoundError, 404, "model_not_found", () => create({ model: "nope", messages: user("x") }));
await fails(OpenAI.BadRequestError, 400, "empty_array", () => create({ messages: [] }));
await fails(OpenAI.APIError, 413, "request_too_large", () => create({ messages: user("x".repeat(60_000_000)) }));

console.log("all good");
