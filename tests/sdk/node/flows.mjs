// Plays every flow with the official Node SDK and prints what the app saw, as JSON.
//
// usage: flows.mjs URL openai | azure-dated
//
// The flows are those of flows.py.

import assert from "node:assert";
import * as sdk from "openai";
import { VERSION } from "openai/version";
import { QUESTION, clientOf } from "./openai_client.mjs";

const [url, kind] = process.argv.slice(2);
const client = clientOf(sdk, url, kind, "2025-03-01-preview");
const threads = client.beta.threads;

/** A new thread's id; the thread has one user message. */
async function asked(text = QUESTION) {
  const thread = await threads.create();
  await threads.messages.create(thread.id, { role: "user", content: text });
  return thread.id;
}

async function listed(thread, run) {
  const messages = [];
  for await (const message of threads.messages.list(thread, { run_id: run, order: "asc" })) messages.push(message);
  return messages;
}

/** What a stream helper told: every event and what it made of them. */
async function told(stream) {
  const events = [];
  for await (const event of stream) events.push(structuredClone(event));
  return { events, run: stream.currentRun() ?? (await stream.finalRun()), messages: await stream.finalMessages() };
}

function outputs(run) {
  const calls = run.required_action.submit_tool_outputs.tool_calls;
  return calls.map((call) => ({ tool_call_id: call.id, output: `${call.function.name} says fine` }));
}

const flows = {
  async create_and_poll() {
    const thread = await asked();
    const run = await threads.runs.createAndPoll(thread, { assistant_id: "asst_echo" });
    return { run, messages: await listed(thread, run.id) };
  },

  async create_and_poll_limit_1() {
    const thread = await asked();
    const run = await threads.runs.createAndPoll(thread, { assistant_id: "asst_echo" });
    const page = await threads.messages.list(thread, { run_id: run.id, limit: 1 });
    return { run, messages: page.data };
  },

  async stream() {
    return told(threads.runs.stream(await asked(), { assistant_id: "asst_echo" }));
  },

  async stream_without_helper() {
    const stream = await threads.runs.create(await asked(), { assistant_id: "asst_messages", stream: true });
    const events = [];
    for await (const event of stream) events.push(event);
    return events;
  },

  async create_and_run() {
    const thread = { messages: [{ role: "user", content: QUESTION }] };
    const created = await threads.createAndRun({ assistant_id: "asst_echo", thread });
    const run = await threads.runs.poll(created.id, { thread_id: created.thread_id });
    return { created, run, messages: await listed(run.thread_id, run.id) };
  },

  async create_and_run_poll() {
    const messages = [{ role: "user", content: "one" }, { role: "user", content: "two" }];
    const run = await threads.createAndRunPoll({ assistant_id: "asst_messages", thread: { messages } });
    return { run, messages: await listed(run.thread_id, run.id) };
  },

  async create_and_run_stream() {
    const thread = { messages: [{ role: "user", content: QUESTION }] };
    return told(threads.createAndRunStream({ assistant_id: "asst_echo", thread }));
  },

  async tools_polled() {
    const thread_id = await asked();
    const first = await threads.runs.createAndPoll(thread_id, { assistant_id: "asst_tools" });
    assert.equal(first.status, "requires_action");
    const tool_outputs = outputs(first);
    const run = await threads.runs.submitToolOutputsAndPoll(first.id, { thread_id, tool_outputs });
    const steps = [];
    for await (const step of threads.runs.steps.list(run.id, { thread_id })) steps.push(step);
    return { first, run, messages: await listed(thread_id, run.id), steps };
  },

  async tools_streamed() {
    const thread_id = await asked();
    const streams = [await told(threads.runs.stream(thread_id, { assistant_id: "asst_tool_twice" }))];
    while (streams.at(-1).run.status === "requires_action") {
      const run = streams.at(-1).run;
      const tool_outputs = outputs(run);
      streams.push(await told(threads.runs.submitToolOutputsStream(run.id, { thread_id, tool_outputs })));
    }
    assert.equal(streams.length, 3);
    return streams;
  },

  async additional_messages() {
    const thread = await asked("first");
    const additional_messages = [{ role: "user", content: "second" }, { role: "user", content: "third" }];
    const body = { assistant_id: "asst_echo", metadata: { k: "v" }, additional_messages };
    const run = await threads.runs.createAndPoll(thread, body);
    return { run, messages: await listed(thread, run.id) };
  },

  async second_run() {
    const thread = await asked("first");
    await told(threads.runs.stream(thread, { assistant_id: "asst_echo" }));
    await threads.messages.create(thread, { role: "user", content: "second" });
    return told(threads.runs.stream(thread, { assistant_id: "asst_echo" }));
  },

  async failing_streamed() {
    const seen = await told(threads.runs.stream(await asked(), { assistant_id: "asst_fail" }));
    assert.equal(seen.run.status, "failed");
    return seen;
  },

  async failing_polled() {
    const thread = await asked();
    const seen = [];
    for (const [kind, status] of [["fail_early", "failed"], ["expire", "expired"], ["incomplete", "incomplete"]]) {
      const run = await threads.runs.createAndPoll(thread, { assistant_id: `asst_${kind}` });
      assert.equal(run.status, status);
      seen.push({ run, messages: await listed(thread, run.id) });
    }
    return seen;
  },

  async cancelled() {
    const thread_id = await asked();
    const created = await threads.runs.create(thread_id, { assistant_id: "asst_stall" });
    const cancelling = await threads.runs.cancel(created.id, { thread_id });
    const run = await threads.runs.poll(created.id, { thread_id });
    assert.equal(run.status, "cancelled");
    return { cancelling, run };
  },

  async refused() {
    const thread = await asked();
    await threads.runs.create(thread, { assistant_id: "asst_stall" });
    const seen = [];
    for (const attempt of [
      () => threads.messages.create(thread, { role: "user", content: "too early" }),
      () => threads.retrieve("thread_missing"),
      () => threads.createAndRun({ assistant_id: "asst_missing" }),
    ]) {
      try {
        await attempt();
      } catch (error) {
        seen.push({ status: error.status, kind: error.constructor.name, body: error.error });
      }
    }
    assert.deepEqual(seen.map((refusal) => refusal.status), [400, 404, 404]);
    return seen;
  },

  async error_in_stream() {
    const stream = threads.runs.stream(await asked(), { assistant_id: "asst_error" });
    try {
      await told(stream);
    } catch (error) {
      return { kind: error.constructor.name, message: error.message, code: error.code };
    }
    throw new Error("the stream's error was not raised");
  },
};

const report = {};
for (const [name, flow] of Object.entries(flows)) {
  try {
    report[name] = { seen: await flow() };
  } catch (error) {
    // Reported, and judged by the runner.
    report[name] = { error: String(error) };
  }
}
console.log(JSON.stringify({ sdk: `openai-node ${VERSION}`, flows: report }));
