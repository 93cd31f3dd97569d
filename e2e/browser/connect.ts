// Calls the server with Connect's library and code generated from proto/. The query of the page's
// URL has the server, the protocol and the images, as paths on the page's own site.
import { toJson } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { ErrorInfoSchema } from "mien/errors_pb";
import { Inference, InferResultsSchema, ListModelsResponseSchema } from "mien/inference/v1/inference_pb";

const query = new URLSearchParams(location.search);
const baseUrl = query.get("server")!;
const transport = {
  connect: () => createConnectTransport({ baseUrl }),
  "connect binary": () => createConnectTransport({ baseUrl, useBinaryFormat: true }),
  "connect get": () => createConnectTransport({ baseUrl, useHttpGet: true }),
  grpcweb: () => createGrpcWebTransport({ baseUrl }),
}[query.get("protocol")!]!();
const client = createClient(Inference, transport);

const answers = [];
const images = [];
for (const imageId of query.getAll("image")) {
  const rawData = new Uint8Array(await (await fetch(imageId)).arrayBuffer());
  images.push({ rawData, imageId });
  let requestId;
  const answer = await client.predict(
    { rawData, imageId },
    { timeoutMs: 60_000, onHeader: (header) => (requestId = header.get("x-request-id")) },
  );
  answers.push({ requestId, body: toJson(InferResultsSchema, answer) });
}

images.push({ rawData: new Uint8Array([0xff, 0xd8, 0xff, 0xe0]), imageId: "broken" });
const batch = [];
for await (const answer of client.predictBatch({ images })) batch.push(toJson(InferResultsSchema, answer));

const models = toJson(ListModelsResponseSchema, await client.listModels({}));

let error;
try {
  await client.predict({ rawData: new Uint8Array([0xff, 0xd8, 0xff, 0xe0]) });
} catch (e) {
  error =
    e instanceof ConnectError
      ? { code: Code[e.code], message: e.rawMessage, details: e.findDetails(ErrorInfoSchema).map((d) => `${d.domain}/${d.reason}`) }
      : { message: String(e) };
}

console.log({ answers, batch, models, error });
