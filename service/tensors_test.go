package service

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"testing"
)

// FuzzParseInfer checks that the body of a request of plain HTTP is either rejected, or means
// the same as the body that has the same images in the other form: base64 or binary.
func FuzzParseInfer(f *testing.F) {
	seed := func(header, body string) { f.Add(header, []byte(body)) }
	seed("", `{"inputs":[{"name":"image","shape":[1],"datatype":"BYTES","data":["AAAA"]}]}`)
	seed("", `{"id":"1","parameters":{"max_results":2,"x":[1],"binary_data_output":true},"inputs":[{"name":"image","shape":[2,1],"datatype":"BYTES","data":[["AA=="],["A A\/-"]]}],"outputs":[{"name":"counts","parameters":{"binary_data":false}}]}`)
	binaryJSON := `{"inputs":[{"name":"image","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":9}}]}`
	seed(strconv.Itoa(len(binaryJSON)), binaryJSON+"\x01\x00\x00\x00x\x00\x00\x00\x00")
	seed(strconv.Itoa(len(binaryJSON)), binaryJSON+"\xff\xff\xff\xffx\x00\x00\x00\x00")
	seed("0", "\x01\x00\x00\x00x")
	seed("99999999999999999999", "{}")
	seed("", `{"inputs":[{"data":null}],"outputs":[{"name":"boxes","parameters":null},{"name":"boxes"}],"parameters":null}`)
	f.Fuzz(func(t *testing.T, header string, data []byte) {
		parsed, err := parseInfer(bytes.Clone(data), header)
		if err != nil {
			return
		}
		total := 0
		for _, img := range parsed.images {
			total += len(img)
		}
		if n := len(parsed.images); n == 0 || n > maxItems || total > len(data) || len(parsed.outputs) == 0 || len(parsed.binary) != len(parsed.outputs) {
			t.Fatalf("%+v of %q", parsed, data)
		}
		for name, encode := range map[string]func(*testing.T, parsedInfer) (string, []byte){"base64": encodeBase64, "binary": encodeBinary} {
			header, body := encode(t, parsed)
			again, err := parseInfer(body, header)
			if err != nil {
				t.Fatalf("%s: %v: %q", name, err, body)
			}
			if again.id != parsed.id || !slices.EqualFunc(again.images, parsed.images, bytes.Equal) || !slices.Equal(again.outputs, parsed.outputs) ||
				!maps.Equal(again.binary, parsed.binary) || !maps.Equal(again.parameters, parsed.parameters) {
				t.Fatalf("%s: %+v, want %+v", name, again, parsed)
			}
		}
	})
}

// encodeInfer returns the JSON of a request with that input.
func encodeInfer(t *testing.T, parsed parsedInfer, in map[string]any) []byte {
	t.Helper()
	in["name"], in["datatype"], in["shape"] = inputName, typeBytes, []int{len(parsed.images), 1}
	outputs := []any{}
	for _, name := range parsed.outputs {
		outputs = append(outputs, map[string]any{"name": name, "parameters": map[string]any{binaryParameter: parsed.binary[name]}})
	}
	body, err := json.Marshal(map[string]any{"id": parsed.id, "parameters": parsed.parameters, "inputs": []any{in}, "outputs": outputs})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func encodeBase64(t *testing.T, parsed parsedInfer) (header string, body []byte) {
	t.Helper()
	return "", encodeInfer(t, parsed, map[string]any{"data": parsed.images}) // package json encodes bytes in base64
}

func encodeBinary(t *testing.T, parsed parsedInfer) (header string, body []byte) {
	t.Helper()
	var raw []byte
	for _, img := range parsed.images {
		raw = append(binary.LittleEndian.AppendUint32(raw, uint32(len(img))), img...)
	}
	body = encodeInfer(t, parsed, map[string]any{"parameters": map[string]any{binarySizeParameter: len(raw)}})
	return strconv.Itoa(len(body)), append(body, raw...)
}
