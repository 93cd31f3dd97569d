// Calls the server with grpc-web, whose generator makes clients for its text mode by default. The
// query of the page's URL has the server.
import { GrpcWebClientBase, MethodDescriptor, MethodType } from "grpc-web";

const server = new URLSearchParams(location.search).get("server");
const procedure = "/inference.v1.Inference/ListModels";
const bytes = (x) => x;
const method = new MethodDescriptor(procedure, MethodType.UNARY, Object, Object, () => new Uint8Array(), bytes);
const answers = {};
for (const format of ["text", "binary"]) {
  answers[format] = await new Promise((done) => {
    new GrpcWebClientBase({ format }).rpcCall(server + procedure, {}, {}, method, (error, answer) =>
      done(error ? { code: error.code, message: error.message } : { length: answer.length }),
    );
  });
}
console.log(answers);
