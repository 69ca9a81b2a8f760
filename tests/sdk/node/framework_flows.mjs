// A turn with tools as users of the AI SDK write it: its second request mentions the items of the first response.
//
// usage: framework_flows.mjs URL
//
// Prints, by flow, the ids of its responses in order.

import { createOpenAI } from "@ai-sdk/openai";
import { generateText, isStepCount, tool } from "ai";
import { z } from "zod";

const openai = createOpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "sk-test-123" });

async function withTools() {
  const tools = {
    get_weather: tool({
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => `sunny in ${city}`,
    }),
    get_time: tool({
      inputSchema: z.object({ zone: z.string() }),
      execute: async ({ zone }) => `noon in ${zone}`,
    }),
  };
  const result = await generateText({
    instructions: "You keep a store.",
    maxRetries: 0,
    model: openai("fake-tools"),
    prompt: "What are the store hours?",
    tools,
    stopWhen: isStepCount(3),
  });
  return (await result.steps).map((step) => step.response.id);
}

console.log(JSON.stringify({ tool: await withTools() }));
