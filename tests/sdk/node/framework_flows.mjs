// Conversations as users of the AI SDK write them: three turns, a turn with tools and one after it, handoffs to another agent. No ids of
// responses are passed on by hand, and no headers of threadtap's are set, save where a session and a user are named.
//
// usage: framework_flows.mjs URL MERGING CONTROL
//
// What ends in `, merged` is played against MERGING, everything else against URL. Prints, by flow, the ids of its responses in order,
// which the fake server tells at CONTROL.

import { createOpenAI } from "@ai-sdk/openai";
import { ToolLoopAgent, generateText, streamText, tool } from "ai";
import { z } from "zod";

const [url, merging, control] = process.argv.slice(2);
const INSTRUCTIONS = "You keep a store.";
const OTHER_INSTRUCTIONS = "You take orders.";
const RESPONSES_ALONE = ["turns by id", "turns of an old model", "turns, thinking"];
const MERGED = ["handoff", "handoff within a loop", "tool", "tool, twice"];
const TO_CASHIER = {
  transfer_to_cashier: tool({ inputSchema: z.object({}), execute: async () => "Transferred to cashier." }),
};
const TO_CLERK = {
  transfer_to_clerk: tool({ inputSchema: z.object({}), execute: async () => "Transferred to clerk." }),
};
const TOOLS = {
  get_weather: tool({
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `sunny in ${city}`,
  }),
  get_time: tool({
    inputSchema: z.object({ zone: z.string() }),
    execute: async ({ zone }) => `noon in ${zone}`,
  }),
};

function modelOf({ api, at }, name = "gpt-5") {
  const openai = createOpenAI({ baseURL: `${at}/v1`, apiKey: "sk-test-123" });
  return { Responses: openai.responses, Chat: openai.chat }[api](name);
}

const FLOWS = {
  async turns(talk, name = "gpt-5", options = {}) {
    const messages = [];
    for (const content of talk.texts) {
      messages.push({ role: "user", content });
      const model = modelOf(talk, name);
      const result = await generateText({ instructions: INSTRUCTIONS, maxRetries: 0, model, messages, ...options });
      messages.push(...result.responseMessages);
    }
  },

  async "turns, streamed"(talk) {
    const messages = [];
    for (const content of talk.texts) {
      messages.push({ role: "user", content });
      const result = streamText({ instructions: INSTRUCTIONS, maxRetries: 0, model: modelOf(talk), messages });
      await result.consumeStream();
      messages.push(...(await result.responseMessages));
    }
  },

  async "turns by id"(talk) {
    let previousResponseId;
    for (const prompt of talk.texts) {
      const providerOptions = { openai: { previousResponseId } };
      const model = modelOf(talk);
      const result = await generateText({ instructions: INSTRUCTIONS, maxRetries: 0, model, prompt, providerOptions });
      previousResponseId = result.providerMetadata.openai.responseId;
    }
  },

  // What such a model says is mentioned later, not repeated.
  "turns of an old model": (talk) => FLOWS.turns(talk, "gpt-4.1"),

  "turns, thinking": (talk) =>
    FLOWS.turns(talk, "gpt-5", { providerOptions: { openai: { metadata: { behaviour: "reason" } } } }),

  async tool(talk, caller = "fake-tools") {
    const messages = [];
    for (const [turn, name] of [caller, "gpt-5"].entries()) {
      messages.push({ role: "user", content: talk.texts[turn] });
      const agent = new ToolLoopAgent({ instructions: INSTRUCTIONS, maxRetries: 0, model: modelOf(talk, name), tools: TOOLS });
      const result = await agent.generate({ messages });
      messages.push(...result.responseMessages);
    }
  },

  "tool, twice": (talk) => FLOWS.tool(talk, "fake-tool_twice"),

  // It has no handoffs of its own. Either the app asks again, in the name of another agent, …
  async handoff(talk) {
    const clerk = { instructions: INSTRUCTIONS, tools: TO_CASHIER };
    const cashier = { instructions: OTHER_INSTRUCTIONS, tools: TO_CLERK };
    const providerOptions = { openai: { metadata: { behaviour: "handoff" } } };
    const [model, messages] = [modelOf(talk), []];
    let agent = clerk;
    for (const content of talk.texts) {
      messages.push({ role: "user", content });
      for (let isDone = false; !isDone; ) {
        const result = await generateText({ ...agent, maxRetries: 0, model, messages, providerOptions });
        messages.push(...result.responseMessages);
        isDone = result.toolCalls.length === 0;
        if (!isDone) agent = agent === clerk ? cashier : clerk;
      }
    }
  },

  // … or one agent becomes another between two steps.
  async "handoff within a loop"(talk) {
    const cashier = { instructions: OTHER_INSTRUCTIONS, activeTools: [] };
    const isCashier = (steps) => steps.some((step) => step.toolCalls.length > 0);
    const prepareStep = ({ steps }) => (isCashier(steps) ? cashier : {});
    const clerk = { instructions: INSTRUCTIONS, tools: TO_CASHIER, prepareStep };
    const messages = [{ role: "user", content: talk.texts[0] }];
    const first = new ToolLoopAgent({ ...clerk, maxRetries: 0, model: modelOf(talk, "fake-handoff") });
    messages.push(...(await first.generate({ messages })).responseMessages);
    messages.push({ role: "user", content: talk.texts[1] });
    const second = new ToolLoopAgent({ instructions: OTHER_INSTRUCTIONS, maxRetries: 0, model: modelOf(talk) });
    await second.generate({ messages });
  },

  async named(talk, session, user) {
    const [model, instructions, prompt] = [modelOf(talk), INSTRUCTIONS, talk.texts[0]];
    const headers = { "x-threadtap-session": session, "x-threadtap-user": user };
    await generateText({ model, instructions, prompt, headers });
  },

  async "named, an agent"(talk, session, user) {
    const [model, instructions, prompt] = [modelOf(talk), INSTRUCTIONS, talk.texts[0]];
    const headers = { "x-threadtap-session": session, "x-threadtap-user": user };
    const agent = new ToolLoopAgent({ model, instructions, headers });
    await agent.generate({ prompt });
  },
};

/** What the user says in a flow. No two begin alike: what several say tells nobody apart. */
function said(name) {
  return [`What are the store hours? (${name})`, "And on Sundays?", "Thank you."];
}

/** The ids of all responses and completions there were, those of each API in order. */
async function answered() {
  const [responses, completions] = await Promise.all(
    ["responses", "completions"].map(async (path) => (await fetch(`${control}/${path}`)).json()),
  );
  return [...responses.map((truth) => truth.response), ...completions.map((truth) => truth.completion)];
}

const ids = {};
for (const api of ["Responses", "Chat"]) {
  for (const [kind, flow] of Object.entries(FLOWS)) {
    if (RESPONSES_ALONE.includes(kind) && api !== "Responses") continue;
    const places = { [kind]: url, ...(MERGED.includes(kind) && { [`${kind}, merged`]: merging }) };
    for (const [played, at] of Object.entries(places)) {
      const name = `AI SDK, ${api}, ${played}`;
      const before = await answered();
      const names = kind.startsWith("named") ? [`session of ${name}`, `user of ${name}`] : [];
      await flow({ api, at, texts: said(name) }, ...names);
      ids[name] = (await answered()).filter((id) => !before.includes(id));
    }
  }
}
console.log(JSON.stringify(ids));
