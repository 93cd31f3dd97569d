// Calls PredictStream over HTTP/1.1, which cannot carry it, by Connect and by gRPC-Web.
//
// Arguments: the server's URL, and the contract as a FileDescriptorSet. Prints a JSON
// object a line: {"client", "code", "message"}.
import { readFile } from "node:fs/promises";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";

const [baseUrl, contract] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, await readFile(contract)));

async function* images() {
  yield { rawData: new Uint8Array(1_000_000) };
}

for (const [client, transport] of Object.entries({ connect: createConnectTransport, grpcweb: createGrpcWebTransport })) {
  const inference = createClient(registry.getService("inference.v1.Inference"), transport({ baseUrl, httpVersion: "1.1" }));
  let code = "none";
  let message = "";
  try {
    for await (const answer of inference.predictStream(images())) message = String(answer);
  } catch (e) {
    code = Code[e.code] ?? "unknown";
    message = e.rawMessage ?? String(e);
  }
  console.log(JSON.stringify({ client, code, message }));
}
process.exit();
