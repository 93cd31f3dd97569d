package e2e

import (
	"strings"
	"testing"
)

// TestDocsDecisions: a block of which nobody decided what becomes of it, or not clearly, is told
// with its document and line.
func TestDocsDecisions(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ document, problem string }{
		"no language":        {"~~~\nx\n~~~", `doc.md:1 (): a block in "" is not run (sh, bash, python, go, js, ts are)`},
		"a language":         {"text\n\n~~~yaml\nx: 1\n~~~", `doc.md:3 (yaml): a block in "yaml" is not run`},
		"in a list":          {"- item\n\n  ~~~json\n  {}\n  ~~~", `doc.md:3 (json): a block in "json" is not run`},
		"indented":           {"text\n\n    make test", "doc.md:3 (): an indented block has no language"},
		"unknown mark":       {"<!-- notrun: slow -->\n~~~sh\ntrue\n~~~", `doc.md:2 (sh): the mark "notrun" is unknown`},
		"no mark":            {"<!-- TODO(me) -->\n~~~sh\ntrue\n~~~", `doc.md:2 (sh): "<!-- TODO(me) -->" on the line above is not a mark`},
		"no reason":          {"<!-- not run -->\n~~~sh\ntrue\n~~~", `doc.md:2 (sh): the mark "not run" needs an argument`},
		"an argument":        {"~~~sh\ntrue\n~~~\n<!-- output: json -->\n~~~json\n{}\n~~~", `doc.md:5 (json): the mark "output" has no argument`},
		"another language":   {"<!-- browser: http://localhost -->\n~~~sh\ntrue\n~~~", `doc.md:2 (sh): the mark "browser" is for js, ts`},
		"output of nothing":  {"<!-- not run: slow -->\n~~~sh\ntrue\n~~~\n<!-- output -->\n~~~json\n{}\n~~~", "doc.md:6 (json): no block above it prints anything"},
		"a comment in prose": {"<!-- a note -->\n\n~~~sh\ntrue\n~~~", ""},
		"two lines":          {"<!-- not run: too\nslow -->\n~~~sh\ntrue\n~~~", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parseBlocks("doc.md", []byte(test.document))
			switch {
			case test.problem == "" && err != nil:
				t.Error(err)
			case test.problem != "" && (err == nil || !strings.HasPrefix(err.Error(), test.problem)):
				t.Errorf("the problem is %v, want %s", err, test.problem)
			}
		})
	}
}

// TestDocsLanguages: each language runs, and each mark is obeyed.
func TestDocsLanguages(t *testing.T) {
	t.Parallel()
	if err := runDocument(t, `
~~~sh
greeting=hello
cd photos
~~~
~~~bash
echo "$greeting"; ls
~~~
<!-- output -->
~~~text
hello
a...
b.jpg
~~~
~~~sh
cd ..
~~~
<!-- file: request.json -->
~~~json
{"message": "from a file"}
~~~
~~~python
print(open("request.json").read())
~~~
<!-- output -->
~~~json
{"message": "..."}
~~~
~~~js
import { createClient } from "@connectrpc/connect";
console.log(typeof createClient, 1);
~~~
<!-- output -->
~~~text
function 1
~~~
~~~ts
const n: number = 2;
console.log(n);
~~~
<!-- output -->
~~~text
2
~~~
<!-- browser: http://localhost:8080/livez -->
~~~js
console.log(location.pathname);
~~~
<!-- output -->
~~~text
/livez
~~~
<!-- browser: http://localhost:8080/livez -->
~~~ts
import { Code } from "@connectrpc/connect";
const code: Code = Code.NotFound;
console.log(code, document.contentType);
~~~
<!-- output -->
~~~text
5 ...
~~~
<!-- fails -->
~~~sh
echo before
curl localhost:8080/nothing
echo after
~~~
<!-- output -->
~~~text
before
404 page not found
~~~
~~~sh
curl -T photo.jpg 'localhost:8080/predict?max_results=1&skip_landmarks=true'
~~~
<!-- output -->
~~~json
{"message": "", "results": [{"box": {"upLeft": {"x": 68, "y": 70}, "lowerRight": {"x": 252, "y": 340}}, "confidence": 0.99999}]}
~~~
`); err != nil {
		t.Error(err)
	}
}

// TestDocsProblems: what does not work is told with its document and line.
func TestDocsProblems(t *testing.T) {
	t.Parallel()
	err := runDocument(t, `
~~~sh
curl --json '{"rawData": "'$(base64 -w0 photo.jpg)'", "minconfidence": 1}' localhost:8080/inference.v1.Inference/Predict
~~~
<!-- output -->
~~~json
{"results": [...]}
~~~
~~~sh
echo '{"confidence": 0.99966, "faces": [1, 2]}'
~~~
<!-- output -->
~~~json
{"confidence": 0.9996, "faces": [1, 2]}
~~~
<!-- output -->
~~~json
{"confidence": 0.9997, "faces": [1]}
~~~
<!-- output -->
~~~text
faces
~~~
~~~go
package main
func main() {}
~~~
~~~ts
let let = 1;
~~~
<!-- browser: http://localhost:8080/livez -->
~~~js
console.log(1);
await fetch("http://localhost:1");
~~~
~~~sh
curl localhost:8080/nothing || true
~~~
<!-- fails -->
~~~sh
echo fine
~~~
~~~sh
true
~~~
`)
	if err == nil {
		t.Fatal("no problem is found")
	}
	text := err.Error()
	for _, problem := range []string{
		`doc.md:6 (json): the block above prints something else: the value has the fields ["height" "imageId"`,
		`doc.md:13 (json): the block above prints something else: .confidence is 0.99966, not 0.9996`,
		`doc.md:17 (json): the block above prints something else: .faces has 2 elements, not 1`,
		`doc.md:21 (text): the block above prints something else: the text differs`,
		`doc.md:24 (go): it is not formatted`,
		`doc.md:28 (ts): it does not compile`,
		`doc.md:32 (js): in the browser: ["Error: page.evaluate: TypeError: Failed to fetch`,
		`doc.md:40 (sh): exit status 1`,
		`it succeeds, and is marked as one that fails`,
		`doc.md: the blocks below line 40 were not run`,
		`doc.md:2 (sh): the server's log says: `,
		`"msg":"unknown fields are ignored"`,
		`doc.md:36 (sh): the server's log says: `,
		`"path":"/nothing","status":404`,
	} {
		before, after, found := strings.Cut(text, problem)
		if !found {
			t.Errorf("%q is not told, or not in this order", problem)
			continue
		}
		_, text = before, after
	}
	if t.Failed() {
		t.Log(err)
	}
}

// runDocument returns what is wrong with a document.
func runDocument(t *testing.T, document string) error {
	t.Helper()
	blocks, err := parseBlocks("doc.md", []byte(document))
	if err != nil {
		return err
	}
	return runBlocks(t, blocks)
}
