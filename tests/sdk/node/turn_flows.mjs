// Plays the flows of Responses or Chat Completions with the official Node SDK and prints what the app saw, as JSON.
//
// usage: turn_flows.mjs PACKAGE URL openai | azure-dated responses | chat
//
// PACKAGE is the SDK's name here: `openai`, or `openai-4` for an old one. The flows are those of turn_flows.py.

import assert from "node:assert";
import { QUESTION, clientOf } from "./openai_client.mjs";

const [sdk, url, kind, api] = process.argv.slice(2);
const loaded = await import(sdk);
const { APIError } = loaded;
const { VERSION } = await import(`${sdk}/version`);
const client = clientOf(loaded, url, kind, "2025-04-01-preview");
const PICTURE =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const PARAMETERS = { type: "object", properties: { city: { type: "string" } } };
const NAMES = ["get_weather", "get_time"];
const RESPONSE_TOOLS = NAMES.map((name) => ({ type: "function", name, parameters: PARAMETERS, strict: false }));
const CHAT_TOOLS = NAMES.map((name) => ({ type: "function", function: { name, parameters: PARAMETERS } }));
const SCHEMA = {
  type: "object",
  properties: { answer: { type: "string" } },
  required: ["answer"],
  additionalProperties: false,
};

/** What the SDK says of a request that fails. */
async function raised(attempt) {
  try {
    await attempt();
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    return { status: error.status, kind: error.constructor.name, message: error.message, code: error.code };
  }
  throw new Error("nothing was raised");
}

async function all(stream) {
  const events = [];
  for await (const event of await stream) events.push(structuredClone(event));
  return events;
}

// ---- Responses

const respond = (model = "gpt-5", input = QUESTION, fields = {}) => client.responses.create({ model, input, ...fields });

/** What a stream helper told: every event and what it made of them. */
async function watched(model = "gpt-5", input = QUESTION, fields = {}) {
  const stream = client.responses.stream({ model, input, ...fields });
  const events = await all(stream);
  return { events, response: await stream.finalResponse() };
}

function outputs(response) {
  const calls = response.output.filter((item) => item.type === "function_call");
  return calls.map((call) => ({ type: "function_call_output", call_id: call.call_id, output: `${call.name} says fine` }));
}

async function polled(model) {
  const states = [await respond(model, QUESTION, { background: true })];
  while (["queued", "in_progress"].includes(states.at(-1).status)) {
    states.push(await client.responses.retrieve(states.at(-1).id));
  }
  return states;
}

const responses = {
  async create() {
    const fields = { safety_identifier: "ada", prompt_cache_key: "shop" };
    return respond("gpt-5", QUESTION, { instructions: "Be brief.", metadata: { k: "v" }, ...fields });
  },

  async create_with_parts() {
    const image = { type: "input_image", image_url: PICTURE, detail: "auto" };
    const parts = [{ type: "input_text", text: QUESTION }, image];
    return respond("gpt-5", [
      { role: "developer", content: "Be kind." },
      { role: "user", content: parts },
    ]);
  },

  async stream_without_helper() {
    return all(respond("fake-messages", QUESTION, { stream: true }));
  },

  async stream() {
    return watched();
  },

  async stream_without_obfuscation() {
    return all(respond("gpt-5", QUESTION, { stream: true, stream_options: { include_obfuscation: false } }));
  },

  async parsed() {
    const format = { type: "json_schema", name: "answer", strict: true, schema: SCHEMA };
    const response = await client.responses.parse({ model: "gpt-5", input: QUESTION, text: { format } });
    assert.deepEqual(JSON.parse(response.output_text), { answer: `You said: ${QUESTION}` });
    return response;
  },

  async chain() {
    const first = await respond("gpt-5", "one");
    const second = await respond("gpt-5", "two", { previous_response_id: first.id });
    return [first, second, await watched("gpt-5", "three", { previous_response_id: second.id })];
  },

  async history_sent_again() {
    const first = await respond("gpt-5", "one", { store: false });
    const said = [{ role: "user", content: "one" }, ...first.output, { role: "user", content: "two" }];
    return [first, await respond("gpt-5", said, { store: false })];
  },

  async conversation() {
    const items = [{ type: "message", role: "user", content: "one" }];
    const conversation = await client.conversations.create({ metadata: { k: "v" }, items });
    const first = await respond("gpt-5", "two", { conversation: conversation.id });
    const more = [{ type: "message", role: "user", content: "three" }];
    await client.conversations.items.create(conversation.id, { items: more });
    const second = await watched("gpt-5", "four", { conversation: { id: conversation.id } });
    const listed = await all(client.conversations.items.list(conversation.id, { limit: 3, order: "asc" }));
    assert.equal(listed.length, 6);
    await client.conversations.update(conversation.id, { metadata: { k: "w" } });
    return [conversation, first, second, listed, await client.conversations.delete(conversation.id)];
  },

  async background() {
    const seen = [];
    for (const model of ["gpt-5", "fake-incomplete", "fake-fail", "fake-messages"]) seen.push(await polled(model));
    return seen;
  },

  async background_cancelled() {
    const response = await respond("fake-stall", QUESTION, { background: true });
    const running = await client.responses.retrieve(response.id);
    const cancelled = await client.responses.cancel(response.id);
    assert.equal(cancelled.status, "cancelled");
    return [running, cancelled];
  },

  async background_resumed() {
    const first = [];
    for await (const event of await respond("fake-long", QUESTION, { background: true, stream: true })) {
      first.push(event);
      if (first.length === 20) break;
    }
    const starting_after = first.at(-1).sequence_number;
    const rest = await client.responses.retrieve(first[0].response.id, { stream: true, starting_after });
    return [first, await all(rest)];
  },

  async tools() {
    const first = await respond("fake-tools", QUESTION, { tools: RESPONSE_TOOLS });
    const fields = { tools: RESPONSE_TOOLS, previous_response_id: first.id };
    return [first, await respond("fake-tools", outputs(first), fields)];
  },

  async tools_sent_again() {
    const fields = { tools: RESPONSE_TOOLS, store: false, include: ["reasoning.encrypted_content"] };
    const first = await respond("fake-reason_tool", QUESTION, fields);
    const said = [{ role: "user", content: QUESTION }, ...first.output, ...outputs(first)];
    return [first, await respond("fake-reason_tool", said, fields)];
  },

  async tools_streamed() {
    const told = [];
    let input = QUESTION;
    let previous = {};
    while (input.length > 0) {
      const { events, response } = await watched("fake-tool_twice", input, { tools: RESPONSE_TOOLS, ...previous });
      told.push({ events, response });
      input = outputs(response);
      previous = { previous_response_id: response.id };
    }
    assert.equal(told.length, 3);
    return told;
  },

  async kinds_of_items() {
    const seen = [];
    const kinds = ["search", "mcp", "reason", "refuse", "messages", "talk_tool", "empty"];
    for (const name of kinds) seen.push(await respond(`fake-${name}`));
    return seen;
  },

  async kinds_of_items_streamed() {
    const seen = [];
    const kinds = ["search", "mcp", "reason", "refuse", "talk_tool", "empty"];
    for (const name of kinds) seen.push(await all(respond(`fake-${name}`, QUESTION, { stream: true })));
    return seen;
  },

  async other_ends() {
    const seen = [];
    for (const model of ["fake-incomplete", "fake-filter", "fake-fail", "fake-fail_early"]) {
      seen.push(await respond(model), await all(respond(model, QUESTION, { stream: true })));
    }
    return seen;
  },

  async error_in_stream() {
    // To the SDK it is an event like any other, if it has no name.
    let events = [];
    const error = await raised(async () => {
      events = await all(respond("fake-error", QUESTION, { stream: true }));
      assert.equal(events.at(-1).type, "error");
      throw new APIError(undefined, undefined, "not raised", undefined);
    });
    return [events, error];
  },

  async left() {
    const events = [];
    for await (const event of await respond("fake-stall", QUESTION, { stream: true })) {
      events.push(event);
      if (event.type === "response.output_text.delta") return events;
    }
  },

  async looked_at_again() {
    const response = await respond();
    const seen = [await client.responses.retrieve(response.id), await all(client.responses.inputItems.list(response.id))];
    await (client.responses.delete ?? client.responses.del).call(client.responses, response.id);
    return [response, seen, await raised(() => client.responses.retrieve(response.id))];
  },

  async counted_and_compacted() {
    const body = { model: "gpt-5", input: QUESTION };
    return [await client.responses.inputTokens.count(body), await client.responses.compact(body)];
  },

  async refused() {
    return [
      await raised(() => respond("gpt-5", QUESTION, { previous_response_id: "resp_none" })),
      await raised(() => respond("gpt-5", QUESTION, { conversation: "conv_none" })),
      await raised(() => respond("fake-error")),
    ];
  },
};

// ---- Chat Completions

const said = (...texts) => texts.map((content) => ({ role: "user", content }));

const complete = (model = "gpt-5", messages = said(QUESTION), fields = {}) =>
  client.chat.completions.create({ model, messages, ...fields });

const chunks = (model = "gpt-5", messages = said(QUESTION), fields = {}) =>
  all(complete(model, messages, { stream: true, ...fields }));

/** Where the helpers are, by the SDK's age. */
const helpers = () => (client.chat.completions.stream ? client.chat.completions : client.beta.chat.completions);

async function chatWatched(model = "gpt-5", messages = said(QUESTION), fields = {}) {
  const stream = helpers().stream({ model, messages, ...fields });
  const seen = await all(stream);
  return { chunks: seen, completion: await stream.finalChatCompletion() };
}

function toolMessages(completion) {
  const { content, tool_calls } = completion.choices[0].message;
  const answer = { role: "assistant", content, tool_calls };
  const output = (call) => ({ role: "tool", tool_call_id: call.id, content: `${call.function.name} says fine` });
  return [answer, ...tool_calls.map(output)];
}

const INCLUDE_USAGE = { stream_options: { include_usage: true } };

const chat = {
  async chat_create() {
    const messages = [{ role: "system", content: "Be brief." }, ...said(QUESTION, "And today?")];
    return complete("gpt-5", messages, { user: "ada" });
  },

  async chat_choices() {
    const asked = said(QUESTION);
    return [
      await complete("gpt-5", asked, { n: 3 }),
      await chunks("gpt-5", asked, { n: 3 }),
      await chunks("gpt-5", asked, { n: 2, ...INCLUDE_USAGE }),
    ];
  },

  async chat_streamed() {
    return [await chunks(), await chunks("gpt-5", said(QUESTION), INCLUDE_USAGE), await chunks("fake-long")];
  },

  async chat_stream_helper() {
    return [await chatWatched(), await chatWatched("fake-refuse", said(QUESTION), INCLUDE_USAGE)];
  },

  async chat_parsed() {
    const response_format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema: SCHEMA } };
    const completion = await helpers().parse({ model: "gpt-5", messages: said(QUESTION), response_format });
    assert.deepEqual(JSON.parse(completion.choices[0].message.content), { answer: `You said: ${QUESTION}` });
    return completion;
  },

  async chat_history() {
    const first = await complete("gpt-5", said("one"));
    const answer = { role: "assistant", content: first.choices[0].message.content };
    const messages = [...said("one"), answer, ...said("two")];
    return [first, await complete("gpt-5", messages), await chunks("gpt-5", messages)];
  },

  async chat_tools() {
    const fields = { tools: CHAT_TOOLS };
    const first = await complete("fake-tools", said(QUESTION), fields);
    return [first, await complete("fake-tools", [...said(QUESTION), ...toolMessages(first)], fields)];
  },

  async chat_tools_streamed() {
    const told = [];
    let messages = said(QUESTION);
    for (;;) {
      const { completion } = await chatWatched("fake-tool_twice", messages, { tools: CHAT_TOOLS });
      told.push(completion);
      if (!completion.choices[0].message.tool_calls) break;
      messages = [...messages, ...toolMessages(completion)];
    }
    assert.equal(told.length, 3);
    return told;
  },

  async chat_tools_of_two_choices() {
    const fields = { n: 2, tools: CHAT_TOOLS };
    return [await complete("fake-tools", said(QUESTION), fields), await chunks("fake-tools", said(QUESTION), fields)];
  },

  async chat_function() {
    const functions = NAMES.map((name) => ({ name, parameters: PARAMETERS }));
    const first = await complete("fake-function", said(QUESTION), { functions });
    const call = first.choices[0].message.function_call;
    const answer = { role: "assistant", content: null, function_call: call };
    const messages = [...said(QUESTION), answer, { role: "function", name: call.name, content: "fine" }];
    const second = await complete("fake-function", messages, { functions });
    return [first, second, await chunks("fake-function", said(QUESTION), { functions })];
  },

  async chat_kinds() {
    const seen = [];
    for (const name of ["refuse", "incomplete", "filter", "reason", "empty", "talk_tool"]) {
      seen.push(await complete(`fake-${name}`), await chunks(`fake-${name}`));
    }
    return seen;
  },

  async chat_media() {
    const parts = [
      { type: "text", text: QUESTION },
      { type: "image_url", image_url: { url: PICTURE } },
      { type: "input_audio", input_audio: { data: "UklGRiQAAABXQVZF", format: "wav" } },
    ];
    const spoken = { modalities: ["text", "audio"], audio: { voice: "alloy", format: "wav" } };
    return [
      await complete("gpt-5", [{ role: "user", content: parts }]),
      await complete("gpt-5", said(QUESTION), spoken),
      await chunks("gpt-5", said(QUESTION), spoken),
    ];
  },

  async chat_error_in_stream() {
    return raised(() => chunks("fake-error"));
  },

  async chat_refused() {
    return [
      await raised(() => complete("fake-fail_early")),
      await raised(() => complete("fake-error")),
      await raised(() => complete("gpt-5", [{ role: "cook", content: "x" }])),
    ];
  },

  async chat_left() {
    const seen = [];
    for await (const chunk of await complete("fake-stall", said(QUESTION), { stream: true })) {
      seen.push(chunk);
      if (chunk.choices[0]?.delta?.content) return seen;
    }
  },

  async chat_stored() {
    const stored = await complete("gpt-5", said(QUESTION), { store: true, metadata: { k: "v" } });
    const completions = client.chat.completions;
    const seen = [
      await completions.retrieve(stored.id),
      await all(completions.messages.list(stored.id)),
      await completions.update(stored.id, { metadata: { k: "w" } }),
    ];
    return [stored, seen, await (completions.delete ?? completions.del).call(completions, stored.id)];
  },

  async chat_legacy() {
    const completed = await client.completions.create({ model: "gpt-3.5-turbo-instruct", prompt: QUESTION });
    const asked = { model: "text-embedding-3-small", input: ["a", "b"], encoding_format: "float" };
    return [completed, await client.embeddings.create(asked)];
  },
};

// What an SDK or a kind of server does not have.
const without = [];
if (!client.conversations) without.push("conversation");
if (!client.responses.compact) without.push("counted_and_compacted");
if (kind !== "openai") {
  // Azure's asynchronous filter breaks the helpers, and a deployment has no legacy endpoints of that name.
  without.push("chat_stream_helper", "chat_tools_streamed", "chat_stored", "chat_legacy");
}

const report = {};
for (const [name, flow] of Object.entries({ responses, chat }[api])) {
  if (without.includes(name)) continue;
  try {
    report[name] = { seen: await flow() };
  } catch (error) {
    // Reported, and judged by the runner.
    report[name] = { error: String(error) };
  }
}
console.log(JSON.stringify({ sdk: `openai-node ${VERSION}`, flows: report }));
