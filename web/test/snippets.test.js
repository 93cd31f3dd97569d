import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { LANGUAGES, snippets } from "../page/snippets.js";

const origin = "http://localhost:8080";
const options = { minConfidence: 0.8, minFaceSize: 30, anyOrientation: true, model: "it's 100% \\n yunet" };
const plain = { origin, name: "photo.jpg", sample: "", options: {} };

// pipedBy runs the snippet for a gRPC client in a shell, with cat in place of the client, and returns what it pipes.
function pipedBy(code, name, content) {
  const folder = mkdtempSync(join(tmpdir(), "mien-snippet-"));
  try {
    writeFileSync(join(folder, name), content);
    const script = code.replace(/^  (buf curl|grpcurl) [^]*$/m, "cat");
    assert.notEqual(script, code);
    return JSON.parse(execFileSync("sh", ["-euc", script], { cwd: folder, encoding: "utf8" }));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("each tab has its code", () => {
  assert.deepEqual(Object.keys(snippets(plain)).sort(), LANGUAGES.map(([key]) => key).sort());
});

test("the code for a photograph with the default options", () => {
  const code = snippets(plain);
  assert.equal(code.curl, "curl -s --data-binary @photo.jpg http://localhost:8080/predict\n");
  assert.match(code.buf, /\n  buf curl --protocol grpc --http2-prior-knowledge --data @- \\\n    http:\/\/localhost:8080\/inference\.v1\.Inference\/Predict\n$/);
  assert.match(code.grpcurl, /\n  grpcurl -plaintext -d @ localhost:8080 inference\.v1\.Inference\/Predict\n$/);
  assert.match(code.fetch, /fetch\("photo\.jpg"\)[^]*fetch\("http:\/\/localhost:8080\/inference\.v1\.Inference\/Predict"/);
  assert.match(code.go, /client\.New\("http:\/\/localhost:8080"\)[^]*PredictFile\(context\.Background\(\), "photo\.jpg", nil\)/);
  assert.doesNotMatch(code.go, /proto|inferencev1/);
});

test("the shell pipes the image and the options, whatever their characters are", () => {
  const content = Buffer.from(Array.from({ length: 1000 }, (_, i) => i % 256)); // several lines of base64
  for (const name of ["photo.jpg", "it's 100% [1] $HOME `x` \"y\" \\n.jpg", "-n.jpg", "@list.jpg"]) {
    for (const key of ["buf", "grpcurl"]) {
      assert.deepEqual(pipedBy(snippets({ ...plain, name, options })[key], name, content), { rawData: content.toString("base64"), options });
      assert.deepEqual(pipedBy(snippets({ ...plain, name })[key], name, content), { rawData: content.toString("base64") });
    }
  }
});

test("curl has the options in the query", () => {
  const { curl } = snippets({ ...plain, name: "-o@.jpg", options });
  const [, url] = /'(http[^ ]*)'/.exec(curl);
  assert.ok(curl.startsWith("curl -s --data-binary @./-o@.jpg '"), curl);
  assert.deepEqual(Object.fromEntries(new URL(url).searchParams), { min_confidence: "0.8", min_face_size: "30", any_orientation: "true", model: options.model });
});

test("fetch and Go have the options", () => {
  const code = snippets({ ...plain, options });
  assert.ok(code.fetch.includes(`, options: ${JSON.stringify(options)} })`), code.fetch);
  // gofmt aligns the values of a struct.
  assert.ok(code.go.includes(`&inferencev1.DetectOptions{\n\t\tMinConfidence:  proto.Float32(0.8),\n\t\tMinFaceSize:    30,\n\t\tAnyOrientation: true,\n\t\tModel:          ${JSON.stringify(options.model)},\n\t}`), code.go);
  const { go } = snippets({ ...plain, options: { minFaceSize: 30 } });
  assert.ok(go.includes("inferencev1 ") && !go.includes("protobuf/proto"), go);
});

test("with TLS, gRPC clients get the port, and nothing says plaintext", () => {
  const { curl, buf, grpcurl } = snippets({ ...plain, origin: "https://faces.example" });
  assert.match(grpcurl, /grpcurl -d @ faces\.example:443 /);
  assert.match(grpcurl, /^# .* -cacert FILE\n/);
  for (const code of [curl, buf]) assert.match(code, /^# .* --cacert FILE\n/);
  assert.doesNotMatch(buf + grpcurl, /plaintext|prior-knowledge/);
  assert.match(snippets({ ...plain, origin: "http://faces.example" }).grpcurl, /faces\.example:80 /);
});

test("a key comes from a variable, and is sent to reflection too", () => {
  const code = snippets({ ...plain, options, hasKey: true });
  const header = '"X-Api-Key: $MIEN_API_KEY"';
  assert.ok(code.curl.startsWith(`curl -s -H ${header} --data-binary @photo.jpg `), code.curl);
  assert.ok(code.buf.includes(`--http2-prior-knowledge --header ${header} --reflect-header ${header} --data @-`), code.buf);
  assert.ok(code.grpcurl.includes(`grpcurl -plaintext -H ${header} -d @ `), code.grpcurl);
  assert.ok(code.fetch.includes('headers: { "Content-Type": "application/json", "X-Api-Key": "YOUR KEY" }'), code.fetch);
  assert.ok(code.go.includes('\t"log"\n\t"os"\n') && code.go.includes('client.New("http://localhost:8080", client.WithAPIKey(os.Getenv("MIEN_API_KEY")))'), code.go);
  for (const text of Object.values(snippets(plain))) assert.doesNotMatch(text, /key/i);
});

test("the sample is downloaded first", () => {
  const sample = origin + "/page/sample.jpg";
  const code = snippets({ ...plain, name: "sample.jpg", sample });
  for (const key of ["curl", "buf", "grpcurl"]) assert.ok(code[key].startsWith(`curl -sO ${sample}\n`), code[key]);
  assert.ok(code.fetch.includes(`fetch("${sample}")`));
  assert.ok(code.go.includes(`curl -sO ${sample}\n`));
  assert.ok(snippets({ ...plain, name: "a b.jpg" }).fetch.includes('fetch("a%20b.jpg")'));
});
