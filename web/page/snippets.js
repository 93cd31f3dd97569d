// The call that the page made, for other programs: for this server's address,
// picture and options, ready to paste.

const PATH = "inference.v1.Inference/Predict";

/** shell quotes a word for a POSIX shell. */
const shell = (s) => (/^[\w@%+=:,./-]+$/.test(s) ? s : `'${s.replaceAll("'", `'\\''`)}'`);

/** LANGUAGES are the names of the tabs, with how their code is called. */
export const LANGUAGES = [
  ["curl", "curl"],
  ["buf", "buf curl"],
  ["grpcurl", "grpcurl"],
  ["fetch", "fetch"],
  ["go", "Go"],
];

/**
 * snippets returns the code for each language. call is {origin, name, sample,
 * options}: the server's origin; the picture's name; its URL when the server has
 * it; options of DetectOptions, without those at their default.
 */
export function snippets({ origin, name, sample, options }) {
  const server = new URL(origin);
  const secure = server.protocol === "https:";
  const file = /^[-@]/.test(name) ? "./" + name : name;
  const get = sample ? `curl -sO ${sample}\n` : "";
  const json = Object.keys(options).length ? `,"options":${JSON.stringify(options)}` : "";
  const format = (s) => shell(s.replaceAll("\\", "\\\\").replaceAll("%", "%%"));
  const body = `(printf '{"rawData":"'; base64 < ${shell(file)} | tr -d '\\n'; printf ${format(`"${json}}`)}) |\n`;

  const names = { minConfidence: "min_confidence", minFaceSize: "min_face_size", model: "model" };
  const query = new URLSearchParams(Object.entries(options).map(([k, v]) => [names[k], String(v)])).toString();
  const trust = (flag) => (secure ? `# With a certificate of your own: ${flag}\n` : "");
  // Both want the port, which browsers leave out where it is the usual one.
  const address = server.hostname + ":" + (server.port || (secure ? 443 : 80));

  return {
    curl: trust("--cacert FILE") + get + `curl -s --data-binary ${shell("@" + file)} ${shell(`${origin}/predict${query ? "?" + query : ""}`)}\n`,
    buf: trust("--cacert FILE") + get + body + `  buf curl --protocol grpc ${secure ? "" : "--http2-prior-knowledge "}--data @- \\\n    ${origin}/${PATH}\n`,
    grpcurl: trust("-cacert FILE") + get + body + `  grpcurl ${secure ? "" : "-plaintext "}-d @ ${shell(address)} ${PATH}\n`,
    fetch: fetchSnippet(origin, name, sample, options),
    go: goSnippet(origin, file, sample, options),
  };
}

function fetchSnippet(origin, name, sample, options) {
  const more = Object.keys(options).length ? `, options: ${JSON.stringify(options)}` : "";
  return `// Pages of another origin: start the server with --cors-origin and that origin.
const photo = await fetch(${JSON.stringify(sample || encodeURIComponent(name))}).then((r) => r.blob()); // or a File
const dataURL = await new Promise((resolve) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.readAsDataURL(photo);
});
const answer = await fetch(${JSON.stringify(`${origin}/${PATH}`)}, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ rawData: dataURL.split(",")[1]${more} }),
}).then((r) => r.json());
console.log(answer.results);
`;
}

function goSnippet(origin, file, sample, options) {
  const set = [];
  if (options.minConfidence !== undefined) set.push(["MinConfidence:", `proto.Float32(${options.minConfidence})`]);
  if (options.minFaceSize) set.push(["MinFaceSize:", options.minFaceSize]);
  if (options.model) set.push(["Model:", JSON.stringify(options.model)]);
  const widest = Math.max(0, ...set.map(([name]) => name.length)); // as gofmt has it
  const fields = set.map(([name, value]) => `${name.padEnd(widest)} ${value}`);
  const needsProto = options.minConfidence !== undefined;
  return `// go get github.com/mienproject/mien${sample ? "; curl -sO " + sample : ""}
package main

import (
	"context"
	"fmt"
	"log"
${needsProto ? '\n\t"google.golang.org/protobuf/proto"\n' : ""}
	"github.com/mienproject/mien/client"
${fields.length ? '\tinferencev1 "github.com/mienproject/mien/gen/inference/v1"\n' : ""})

func main() {
	c, err := client.New(${JSON.stringify(origin)})
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
