// The AI SDK against a running demo, with its three providers; tests/clients/run installs it and starts the demo.
//
//     node tests/clients/ai_sdk.mjs BASE_URL KEY

import assert from "node:assert/strict";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { z } from "zod";

const [baseURL, apiKey] = process.argv.slice(2);
const compatible = createOpenAICompatible({
  name: "qwen-bridge",
  baseURL,
  apiKey,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const openai = createOpenAI({ baseURL, apiKey });
const models = {
  compatible: compatible("qwen3-max"),
  chat: openai.chat("qwen3-max"),
  responses: openai.responses("qwen3-max"),
  messages: createAnthropic({ baseURL, apiKey })("qwen3-max"),
};
const weather = "3 degrees and rain";
const tools = {
  get_weather: tool({
    description: "Tells the weather of a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async () => weather,
  }),
};

for (const [name, model] of Object.entries(models)) {
  const asked = { model, maxRetries: 0, maxOutputTokens: 4000 };
  const whole = await generateText({ ...asked, prompt: "echo: grüße 🙂" });
  assert.equal(whole.text, "grüße 🙂", name);
  let text = "";
  for await (const piece of streamText({ ...asked, prompt: "echo: one two" }).textStream) text += piece;
  assert.equal(text, "one two", name);
  const agent = await generateText({
    ...asked,
    prompt: "How is the weather in Oslo?",
    tools,
    stopWhen: stepCountIs(4),
  });
  assert(agent.text.includes(weather), `${name}: ${agent.text}`);
  const told = await generateText({
    ...asked,
    prompt: "How is the weather in Oslo?",
    output: Output.object({ schema: z.object({ city: z.string(), degrees: z.number() }) }),
  });
  assert.equal(typeof told.output.degrees, "number", name);
}

const thoughts = await generateText({ model: compatible("qwen3-max-thinking"), prompt: "Hello" });
assert(thoughts.reasoningText && thoughts.text);
console.log("good");
