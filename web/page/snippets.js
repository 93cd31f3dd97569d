// The page's call as code for other programs, ready to paste: with the address of this server,
// the image and the options. Pure.

const PATH = "inference.v1.Inference/Predict";

/** shell quotes a word for a POSIX shell. */
const shell = (s) => (/^[\w@%+=:,./-]+$/.test(s) ? s : `'${s.replaceAll("'", `'\\''`)}'`);

/** LANGUAGES are the keys of the snippets, with the titles of their tabs. */
export const LANGUAGES = [
  ["curl", "curl"],
  ["buf", "buf curl"],
  ["grpcurl", "grpcurl"],
  ["fetch", "fetch"],
  ["go", "Go"],
];

/**
 * snippets returns the code for each language. origin is the server's; name is the file name of
 * the image; sample is the image's URL if the server serves it, else ""; options are those of
 * DetectOptions that differ from their defaults; hasKey is whether the server requires an API
 * key, which the code takes from the variable MIEN_API_KEY.
 */
export function snippets({ origin, name, sample, options, hasKey = false }) {
  return {
    ...shellSnippets({ origin, file: asPath(name), sample, options, hasKey }),
    fetch: fetchSnippet({ origin, name, sample, options, hasKey }),
    go: goSnippet({ origin, file: asPath(name), sample, options, hasKey }),
  };
}

const KEY_HEADER = '"X-Api-Key: $MIEN_API_KEY"'; // for a shell

// asPath protects a file name that a program could read as a flag or as standard input.
const asPath = (name) => (/^-/.test(name) ? "./" + name : name);

const QUERY_PARAMETERS = { minConfidence: "min_confidence", minFaceSize: "min_face_size", anyOrientation: "any_orientation", model: "model" };

function shellSnippets({ origin, file, sample, options, hasKey }) {
  const server = new URL(origin);
  const secure = server.protocol === "https:";
  // gRPC clients need the port, which browsers leave out if it is the default one.
  const address = server.hostname + ":" + (server.port || (secure ? 443 : 80));
  const query = new URLSearchParams(Object.entries(options).map(([key, value]) => [QUERY_PARAMETERS[key], String(value)])).toString();
  const start = (flag) => (secure ? `# For a certificate of your own, add ${flag}\n` : "") + (sample ? `curl -sO ${sample}\n` : "");
  const body = jsonFromFile(file, options);
  const key = (...flags) => (hasKey ? flags.map((flag) => `${flag} ${KEY_HEADER} `).join("") : "");
  return {
    curl: start("--cacert FILE") + `curl -s ${key("-H")}--data-binary ${shell("@" + file)} ${shell(`${origin}/predict${query ? "?" + query : ""}`)}\n`,
    buf: start("--cacert FILE") + body + `  buf curl --protocol grpc ${secure ? "" : "--http2-prior-knowledge "}${key("--header", "--reflect-header")}--data @- \\\n    ${origin}/${PATH}\n`,
    grpcurl: start("-cacert FILE") + body + `  grpcurl ${secure ? "" : "-plaintext "}${key("-H")}-d @ ${shell(address)} ${PATH}\n`,
  };
}

// jsonFromFile returns shell code that pipes a request in JSON, with the image in base64.
function jsonFromFile(file, options) {
  const more = Object.keys(options).length ? `,"options":${JSON.stringify(options)}` : "";
  const format = (s) => shell(s.replaceAll("\\", "\\\\").replaceAll("%", "%%")); // for printf
  return `(printf '{"rawData":"'; base64 < ${shell(file)} | tr -d '\\n'; printf ${format(`"${more}}`)}) |\n`;
}

function fetchSnippet({ origin, name, sample, options, hasKey }) {
  const more = Object.keys(options).length ? `, options: ${JSON.stringify(options)}` : "";
  return `// To call the server from another origin, start it with --cors-origin and that origin.
const photo = await fetch(${JSON.stringify(sample || encodeURIComponent(name))}).then((r) => r.blob()); // or a File
const dataURL = await new Promise((resolve) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.readAsDataURL(photo);
});
const answer = await fetch(${JSON.stringify(`${origin}/${PATH}`)}, {
  method: "POST",
  headers: { "Content-Type": "application/json"${hasKey ? ', "X-Api-Key": "YOUR KEY"' : ""} },
  body: JSON.stringify({ rawData: dataURL.split(",")[1]${more} }),
}).then((r) => r.json());
console.log(answer.results);
`;
}

function goSnippet({ origin, file, sample, options, hasKey }) {
  const set = [];
  if (options.minConfidence !== undefined) set.push(["MinConfidence:", `proto.Float32(${options.minConfidence})`]);
  if (options.minFaceSize) set.push(["MinFaceSize:", options.minFaceSize]);
  if (options.anyOrientation) set.push(["AnyOrientation:", true]);
  if (options.model) set.push(["Model:", JSON.stringify(options.model)]);
  const widest = Math.max(0, ...set.map(([name]) => name.length)); // aligned as gofmt does
  const fields = set.map(([name, value]) => `${name.padEnd(widest)} ${value}`);
  const needsProto = options.minConfidence !== undefined;
  return `// go get github.com/mienproject/mien${sample ? "; curl -sO " + sample : ""}
package main

import (
	"context"
	"fmt"
	"log"
${hasKey ? '\t"os"\n' : ""}${needsProto ? '\n\t"google.golang.org/protobuf/proto"\n' : ""}
	"github.com/mienproject/mien/client"
${fields.length ? '\tinferencev1 "github.com/mienproject/mien/gen/inference/v1"\n' : ""})

func main() {
	c, err := client.New(${JSON.stringify(origin)}${hasKey ? ', client.WithAPIKey(os.Getenv("MIEN_API_KEY"))' : ""})
	if err != nil {
		log.Fatal(err)
	}
	answer, err := c.PredictFile(context.Background(), ${JSON.stringify(file)}, ${fields.length ? `&inferencev1.DetectOptions{\n\t\t${fields.join(",\n\t\t")},\n\t}` : "nil"})
	if err != nil {
		log.Fatal(err)
	}
	for _, face := range answer.GetResults() {
		fmt.Println(face.GetConfidence(), face.GetBox())
	}
}
`;
}
