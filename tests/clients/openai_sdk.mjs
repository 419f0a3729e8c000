// OpenAI's JavaScript SDK against a running demo; tests/clients/run installs it and starts the demo.
//
//     node tests/clients/openai_sdk.mjs BASE_URL KEY

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

// A loop of two tools: each is called, and the answer quotes the last result.
const task = "How is the weather in Oslo? Send a mail about it.";
const results = { get_weather: "3 degrees and rain", send_mail: "sent as number 17" };
const schema = (name) => ({ type: "object", properties: { [name]: { type: "string" } }, required: [name] });
const functions = [
  { name: "get_weather", description: "Tells the weather.", parameters: schema("city") },
  { name: "send_mail", description: "Sends a mail.", parameters: schema("subject") },
];
for (const stream of [false, true]) {
  const called = [];
  const answering = ({ name, ...rest }) => ({
    type: "function",
    function: {
      ...rest,
      name,
      parse: JSON.parse,
      function: () => {
        called.push(name);
        return results[name];
      },
    },
  });
  const tools = functions.map(answering);
  const runner = client.chat.completions.runTools({ model: "qwen3-max", messages: user(task), tools, stream });
  assert((await runner.finalContent()).includes(results.send_mail));
  assert.deepEqual(called, ["get_weather", "send_mail"]);
}

// The same with responses, which are kept and continued.
for (const stream of [false, true]) {
  const tools = functions.map((one) => ({ type: "function", strict: false, ...one }));
  const called = [];
  let [input, previous_response_id, response] = [task, undefined, null];
  for (let turn = 0; turn < 5; turn += 1) {
    const asked = { model: "qwen3-max", input, tools, previous_response_id };
    response = stream ? await client.responses.stream(asked).finalResponse() : await client.responses.create(asked);
    const calls = response.output.filter((item) => item.type === "function_call");
    if (calls.length === 0) break;
    called.push(...calls.map((call) => call.name));
    const output = ({ call_id, name }) => ({ type: "function_call_output", call_id, output: results[name] });
    [input, previous_response_id] = [calls.map(output), response.id];
  }
  assert.deepEqual(called, ["get_weather", "send_mail"]);
  assert(response.output_text.includes(results.send_mail));
}

// JSON of a given form.
const format = {
  type: "json_schema",
  name: "weather",
  strict: true,
  schema: {
    type: "object",
    properties: { city: { type: "string" }, degrees: { type: "integer" } },
    required: ["city", "degrees"],
    additionalProperties: false,
  },
};
const { type, ...json_schema } = format;
const said = await create({ messages: user("The weather?"), response_format: { type, json_schema } });
assert.equal(typeof JSON.parse(said.choices[0].message.content).degrees, "number");
const parsed = await client.responses.parse({ model: "qwen3-max", input: "The weather?", text: { format } });
assert.equal(typeof JSON.parse(parsed.output_text).degrees, "number");

async function fails(expected, status, code, call) {
  await assert.rejects(call, (error) => error instanceof expected && error.status === status && error.code === code);
}
const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
await fails(OpenAI.AuthenticationError, 401, "invalid_api_key", () => stranger.models.list());
await fails(OpenAI.NotFoundError, 404, "model_not_found", () => create({ model: "nope", messages: user("x") }));
await fails(OpenAI.BadRequestError, 400, "empty_array", () => create({ messages: [] }));
await fails(OpenAI.APIError, 413, "request_too_large", () => create({ messages: user("x".repeat(60_000_000)) }));

console.log("all good");
