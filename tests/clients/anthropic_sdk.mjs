// Anthropic's JavaScript SDK against a running demo; tests/clients/run installs it and starts the demo.
//
//     node tests/clients/anthropic_sdk.mjs BASE_URL KEY
//
// The base URL has no `/v1`: this SDK adds it.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey, maxRetries: 0 });
const ask = (content, more) => ({ model: "qwen3-max", max_tokens: 1000, messages: [{ role: "user", content }], ...more });

const whole = await client.messages.create(ask("echo: grüße 你好 🙂"));
assert.equal(whole.content[0].text, "grüße 你好 🙂");
assert(whole.stop_reason === "end_turn" && whole.usage.input_tokens > 0 && whole.usage.output_tokens > 0);

const thinking = { type: "enabled", budget_tokens: 2000 };
const streamed = await client.messages.stream(ask("Hello", { thinking })).finalMessage();
assert.deepEqual(streamed.content.map((block) => block.type), ["thinking", "text"]);

// A loop of two tools: each is called, and the answer quotes the last result.
const task = "How is the weather in Oslo? Send a mail about it.";
const results = { get_weather: "3 degrees and rain", send_mail: "sent as number 17" };
for (const stream of [false, true]) {
  const called = [];
  const tool = (name, property) => ({
    name,
    description: `Does what ${name} says.`,
    input_schema: { type: "object", properties: { [property]: { type: "string" } }, required: [property] },
    parse: (input) => input,
    run: () => {
      called.push(name);
      return results[name];
    },
  });
  const tools = [tool("get_weather", "city"), tool("send_mail", "subject")];
  const last = await client.beta.messages.toolRunner({ ...ask(task), tools, stream }).runUntilDone();
  assert.deepEqual(called, ["get_weather", "send_mail"]);
  assert(last.content.at(-1).text.includes(results.send_mail));
}

const { input_tokens } = await client.messages.countTokens({ model: "qwen3-max", messages: ask("Hello").messages });
assert(input_tokens > 0);

async function fails(expected, status, type, call) {
  const is = (error) => error instanceof expected && error.status === status && error.error.error.type === type;
  await assert.rejects(call, is);
}
const stranger = new Anthropic({ baseURL, apiKey: "wrong", maxRetries: 0 });
await fails(Anthropic.AuthenticationError, 401, "authentication_error", () => stranger.messages.create(ask("x")));
const unknown = () => client.messages.create({ ...ask("x"), model: "nope" });
await fails(Anthropic.NotFoundError, 404, "not_found_error", unknown);

console.log("all good");
