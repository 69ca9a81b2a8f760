// A reference server for Align's `CollectEvents`: Connect's own implementation over the vendor's own descriptors.
//
// usage: align_server.mjs DESCRIPTORS KEY
//
// DESCRIPTORS is a file with a `google.protobuf.FileDescriptorSet`, KEY the bearer token that is asked for. Fields the schema
// does not have are refused. Prints its address as a line of JSON, and ends when its standard input does. Beside the method
// it serves
//
// - `GET /received`: the requests that could be decoded, in proto3's JSON form, each with its headers and the answer;
// - `GET /statuses`: the status of every answer of the method;
// - `POST /failures`: a list of Connect's codes, one for each of the next requests.

import assert from "node:assert";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRegistryFromDescriptors } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

const SERVICE = "ingestion.v1alpha.IngestionService";
const [descriptors, key] = process.argv.slice(2);
const service = createRegistryFromDescriptors(readFileSync(descriptors)).findService(SERVICE);
assert(service?.methods.collectEvents, "the descriptors have no such method");

const received = [];
const statuses = [];
const failures = [];

function collectEvents(request, context) {
  if (context.requestHeader.get("authorization") !== `Bearer ${key}`) {
    throw new ConnectError("wrong key", Code.Unauthenticated);
  }
  const failure = failures.shift();
  const headers = Object.fromEntries(context.requestHeader);
  received.push({ headers, request: request.toJson(), answer: failure ?? "ok" });
  if (failure !== undefined) throw new ConnectError("as it was told to", Code[failure]);
  return {};
}

async function control(request, response) {
  const answer = (value) => response.setHeader("content-type", "application/json").end(JSON.stringify(value));
  switch (`${request.method} ${request.url}`) {
    case "GET /received":
      return answer(received);
    case "GET /statuses":
      return answer(statuses);
    case "POST /failures": {
      const codes = JSON.parse(Buffer.concat(await request.toArray()));
      assert(codes.every((code) => code in Code));
      failures.push(...codes);
      return answer(failures.length);
    }
    default:
      return response.writeHead(404).end();
  }
}

const adapter = connectNodeAdapter({
  routes: (router) => router.service(service, { collectEvents }),
  jsonOptions: { ignoreUnknownFields: false },
  fallback: control,
});
const server = createServer((request, response) => {
  if (request.url.startsWith(`/${SERVICE}/`)) response.on("finish", () => statuses.push(response.statusCode));
  adapter(request, response);
});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` })));
process.stdin.on("end", () => process.exit()).resume();
