// The official JavaScript SDKs, with the settings they have by default, in front of a server whose only account rests
// for hours: each call is one request, and fails at once with the reason. tests/clients/run starts that server.
//
//     node tests/clients/rest_sdk.mjs BASE_URL KEY

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const messages = [{ role: "user", content: "Hello" }];
let requests = 0;
const counted = (...all) => {
  requests += 1;
  return fetch(...all);
};
const openai = new OpenAI({ baseURL, apiKey, fetch: counted });
const anthropic = new Anthropic({ baseURL: baseURL.replace(/\/v1$/, ""), apiKey, fetch: counted });

for (const ask of [
  () => openai.chat.completions.create({ model: "qwen3-max", messages }),
  () => openai.responses.create({ model: "qwen3-max", input: "Hello" }),
  () => anthropic.messages.create({ model: "qwen3-max", max_tokens: 99, messages }),
]) {
  requests = 0;
  await assert.rejects(ask, (error) => error.status === 429 && /quota/.test(error.message));
  assert.equal(requests, 1);
}
console.log("good");
