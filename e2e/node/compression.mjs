// Calls with messages that are compressed in several ways, by Connect for Node.js and by
// grpc-js, which has gRPC's own.
//
// Arguments: the server's URL, the contract as a FileDescriptorSet, and an image. Prints
// a JSON object a line: {"client", "compression", "procedure", and "faces" or "code" and
// "message"}.
import { readFile } from "node:fs/promises";
import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import {
  compressionBrotli,
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";

const [baseUrl, contract, picture] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, await readFile(contract)));
const service = registry.getService("inference.v1.Inference");
const rawData = new Uint8Array(await readFile(picture));

const print = (line) => console.log(JSON.stringify(line));

// A compression that is none, under a name that nobody has.
const zstd = { ...compressionBrotli, name: "zstd" };

for (const [client, transport] of Object.entries({
  connect: createConnectTransport,
  "connect JSON": (options) => createConnectTransport({ ...options, useBinaryFormat: false }),
  "connect over HTTP/1.1": (options) => createConnectTransport({ ...options, httpVersion: "1.1" }),
  grpc: createGrpcTransport,
  grpcweb: createGrpcWebTransport,
})) {
  for (const sendCompression of [compressionBrotli, zstd, compressionGzip]) {
    const inference = createClient(service, transport({ baseUrl, httpVersion: "2", sendCompression, compressMinBytes: 0 }));
    const calls = {
      Predict: async () => (await inference.predict({ rawData })).results.length,
      PredictBatch: async () => {
        let faces = 0;
        for await (const answer of inference.predictBatch({ images: [{ rawData }] })) faces += answer.results.length;
        return faces;
      },
    };
    for (const [procedure, call] of Object.entries(calls)) {
      const line = { client, compression: sendCompression.name, procedure };
      try {
        print({ ...line, faces: await call() });
      } catch (e) {
        print({ ...line, code: e instanceof ConnectError ? Code[e.code] : "none", message: e.rawMessage ?? String(e) });
      }
    }
  }
}

const messages = (schema) => ({
  write: (message) => Buffer.from(toBinary(schema, create(schema, message))),
  read: (bytes) => fromBinary(schema, bytes),
});
for (const compression of ["deflate", "gzip"]) {
  const client = new grpc.Client(new URL(baseUrl).host, grpc.credentials.createInsecure(), {
    "grpc.default_compression_algorithm": grpc.compressionAlgorithms[compression],
  });
  // It compresses the requests of unary calls only.
  const method = service.method.predict;
  const line = { client: "grpc-js", compression, procedure: "Predict" };
  const { write } = messages(method.input);
  const { read } = messages(method.output);
  await new Promise((done) => {
    client.makeUnaryRequest(`/${service.typeName}/Predict`, write, read, { rawData }, (error, answer) => {
      if (error) print({ ...line, code: grpc.status[error.code], message: error.details });
      else print({ ...line, faces: answer.results.length });
      done();
    });
  });
  client.close();
}
process.exit();
