package service

import (
	"bytes"
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// FuzzPrepareJSON checks that prepared JSON has the same meaning for protojson, that a
// field is reported as ignored exactly if protojson would reject it without
// DiscardUnknown, and that text which is not JSON does not become JSON, except for
// white space in base64.
func FuzzPrepareJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"rawData":"AAAA","options":{"minConfidence":0.5,"x":[{}]},"y":null}`, `{"images":[{"raw_data":"AA\n=="},{"imageId":"\"}"}]}`,
		`{"pixelFormat":"GRAY","metaData":{"environment":"ENVIRONMENT_STAGING"},"rawData":"\u0041\/A\r\n"}`, "\xef\xbb\xbf{\"rawData\":\"A A\nA\tA\"}",
		`{"rawData":"AA\\AA"}`, `{"rawData":"A\u00"}`, `{"options":[[{"x":1}]]}`, `{"a":{"b":[1,{"c":"]"}]},"d":}`, `{"rawData":["AA AA"]}`, `{"height":"1"}`, `[{"x":1}]`,
		`{"rawData":"data:image/jpeg;base64,AAAA"}`, `{"rawData":"\"\\\/"}`, "{\"rawData\":\"A\x1fA\"}", `{"images":{"rawData":"A A"}}`, `{"x":"\\","y":"\\\""}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range []proto.Message{&inferencev1.Image{}, &inferencev1.PredictBatchRequest{}, &inferencev1.ListModelsRequest{}} {
			was, is := m.ProtoReflect().New().Interface(), m.ProtoReflect().New().Interface()
			lax := protojson.UnmarshalOptions{DiscardUnknown: true}
			wasErr := lax.Unmarshal(data, was)
			text, ignored := prepareJSON(bytes.Clone(data), jsonShapes[m.ProtoReflect().Descriptor().FullName()])
			isErr := lax.Unmarshal(text, is)
			if want := len(data) - len(text); want != 0 && want != len(byteOrderMark) {
				t.Fatalf("%q became %q", data, text)
			}
			if wasErr == nil {
				if isErr != nil || !proto.Equal(was, is) {
					t.Fatalf("%q became %q: %v, %v, %v", data, text, isErr, was, is)
				}
				strict := protojson.Unmarshal(data, was)
				if (strict == nil) != (ignored == "") {
					t.Fatalf("%q: ignored %q, and protojson says %v", data, ignored, strict)
				}
			}
			if wasErr != nil && isErr == nil && !bytes.HasPrefix(data, byteOrderMark) && !bytes.ContainsAny(data, " \t\r\n=\\") {
				t.Fatalf("%q became %q, which can be read: %v", data, text, wasErr)
			}
			if len(ignored) > maxIgnoredBytes || strings.ContainsFunc(ignored, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Fatalf("%q is no value of a header", ignored)
			}
		}
	})
}

// FuzzCanonicalQuery checks that a rewritten query has the same meaning for Connect,
// and that rewriting it again does not change it.
func FuzzCanonicalQuery(f *testing.F) {
	for _, seed := range []string{
		"connect=v1&encoding=json&message=%7B%22rawData%22%3A%22AA%2BA%22,%22imageId%22:%22a+b%22%7D", "message=AA+A&base64=1", "base64=1&message=_-_-%3D%0A",
		"encoding=json&message={\"rawData\":\"A++A\"}", "encoding=proto&base64=1&message=ChA&compression=GZIP", "message=%zz&base64=1", "&&=&message", "message=a&message=b&base64=1&base64=0",
		"encoding=json&compression=x-gzip&message=a+b", "%6dessage=AAA&base64=1", "encoding=proto&message=%0A%1F+",
	} {
		f.Add(seed)
	}
	read := func(t *testing.T, query string) (values url.Values, message []byte, ok bool) {
		t.Helper()
		values, err := url.ParseQuery(query)
		if err != nil {
			return nil, nil, false
		}
		if values.Get("base64") != "1" {
			return values, []byte(values.Get("message")), true
		}
		text, encoding := values.Get("message"), base64.RawURLEncoding // like Connect
		if len(text)%4 == 0 {
			encoding = base64.URLEncoding
		}
		message, err = encoding.DecodeString(text)
		return values, message, err == nil
	}
	f.Fuzz(func(t *testing.T, query string) {
		rewritten := canonicalQuery(query)
		if again := canonicalQuery(rewritten); again != rewritten {
			t.Fatalf("%q became %q, and that %q", query, rewritten, again)
		}
		was, wasMessage, ok := read(t, query)
		if !ok {
			return
		}
		is, isMessage, ok := read(t, rewritten)
		for name := range was {
			if name != "message" && name != "compression" && was.Get(name) != is.Get(name) {
				t.Fatalf("%q became %q", query, rewritten)
			}
		}
		wasImage, isImage := &inferencev1.Image{}, &inferencev1.Image{}
		if jsonUnmarshal.Unmarshal(wasMessage, wasImage) == nil && (jsonUnmarshal.Unmarshal(isMessage, isImage) != nil || !proto.Equal(wasImage, isImage)) {
			t.Fatalf("%q became %q: %v, %v", query, rewritten, wasImage, isImage)
		}
		if (was.Get("base64") == "1" || was.Get("encoding") != "json") && (!ok || !bytes.Equal(wasMessage, isMessage)) {
			t.Fatalf("%q became %q: %q, %q", query, rewritten, wasMessage, isMessage)
		}
	})
}

// TestPrepareLargeJSON checks strings across the boundaries of the chunks that are
// searched at once.
func TestPrepareLargeJSON(t *testing.T) {
	pixels := make([]byte, 100_000)
	for i := range pixels {
		pixels[i] = byte(i * i >> 3)
	}
	b64 := base64.StdEncoding.EncodeToString(pixels)
	for at := range len(b64) {
		if at%9973 > 1 && (at+1)%(16<<10) > 2 && at < len(b64)-4 {
			continue
		}
		text, ignored := prepareJSON([]byte(`{"x":1,"rawData":"`+b64[:at]+`\n`+b64[at:]+`","y":2}`), jsonShapes["inference.v1.Image"])
		m := &inferencev1.Image{}
		if err := jsonUnmarshal.Unmarshal(text, m); err != nil || !bytes.Equal(m.GetRawData(), pixels) || ignored != "x, y" {
			t.Fatalf("a line break at %d: %v, %d bytes, %q", at, err, len(m.GetRawData()), ignored)
		}
	}
}

// BenchmarkJSON reads the message of an image of 16 MiB, without and with line breaks.
// skip is the part of the time that prepareJSON takes.
func BenchmarkJSON(b *testing.B) {
	pixels := make([]byte, 16<<20)
	for i := range pixels {
		pixels[i] = byte(i * i >> 3)
	}
	b64 := base64.StdEncoding.EncodeToString(pixels)
	var lines strings.Builder
	for rest := b64; rest != ""; rest = rest[min(76, len(rest)):] {
		lines.WriteString(rest[:min(76, len(rest))] + `\n`)
	}
	for name, text := range map[string]string{"plain": b64, "lines": lines.String()} {
		message := []byte(`{"rawData":"` + text + `","options":{"minConfidence":0.5}}`)
		scratch := make([]byte, len(message))
		b.Run("text="+name+"/by=codec", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				copy(scratch, message)
				m := &inferencev1.Image{}
				if err := (jsonCodec{}).Unmarshal(scratch, m); err != nil || len(m.GetRawData()) != len(pixels) {
					b.Fatal(err)
				}
			}
		})
		b.Run("text="+name+"/by=prepare", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				copy(scratch, message)
				prepareJSON(scratch, jsonShapes["inference.v1.Image"])
			}
		})
		b.Run("text="+name+"/by=copy", func(b *testing.B) {
			for b.Loop() {
				copy(scratch, message)
			}
		})
		b.Run("text="+name+"/by=protojson", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				copy(scratch, message)
				m := &inferencev1.Image{}
				if err := jsonUnmarshal.Unmarshal(scratch, m); err != nil && name == "plain" {
					b.Fatal(err)
				}
			}
		})
	}
}
