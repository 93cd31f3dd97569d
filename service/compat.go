package service

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"github.com/felixge/httpsnoop"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// The supported content codings. The answer to a request with any other names
// gzipEncoding.
const (
	gzipEncoding = "gzip"
	identity     = "identity"
)

// Compat makes a Connect handler accept requests of more clients:
//
//   - The name of gzip may be spelled in every way that HTTP allows.
//   - Base64 in a URL may have either alphabet, padding, white space and an unescaped
//     +.
//   - Headers for the encoding are left out if they are empty. Connect sends an empty
//     Grpc-Encoding or Connect-Content-Encoding if it does not know the encoding of the
//     request, and gRPC clients then report INTERNAL instead of UNIMPLEMENTED.
//   - Requests that Connect rejects with only a status get a text that says what to
//     send.
func Compat(next http.Handler) http.Handler {
	errorWriter := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // empty if it cannot be parsed
		if strings.HasPrefix(mediaType, "application/grpc-web-text") {
			rejectWebText(w, mediaType)
			return
		}
		if kindAt(r.URL.Path) == streaming && r.ProtoMajor < 2 {
			rejectHTTP1(w, r, mediaType, errorWriter)
			return
		}
		for _, key := range encodingHeaders {
			if value := encodingOf(r.Header, key); value != "" {
				r.Header.Set(key, value)
			}
		}
		if r.Method == http.MethodGet {
			r.URL.RawQuery = canonicalQuery(r.URL.RawQuery)
		}
		next.ServeHTTP(httpsnoop.Wrap(w, httpsnoop.Hooks{
			WriteHeader: func(f httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
				return func(code int) {
					dropEmptyEncodings(w.Header())
					if code != http.StatusUnsupportedMediaType {
						f(code)
						return
					}
					w.Header().Set("Content-Type", "text/plain; charset=utf-8")
					f(code)
					_, _ = io.WriteString(w, wrongContentType(r)) // the client may have disconnected
				}
			},
			Write: func(f httpsnoop.WriteFunc) httpsnoop.WriteFunc {
				return func(p []byte) (int, error) { dropEmptyEncodings(w.Header()); return f(p) }
			},
			Flush: func(f httpsnoop.FlushFunc) httpsnoop.FlushFunc {
				return func() { dropEmptyEncodings(w.Header()); f() }
			},
		}), r)
		dropEmptyEncodings(w.Header()) // for answers without a body
	})
}

// encodingHeaders are the headers that name the compression of messages: in HTTP, in
// streams of Connect, and in gRPC.
var encodingHeaders = [...]string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"}

func dropEmptyEncodings(header http.Header) {
	for _, key := range [...]string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding", "Accept-Encoding", "Connect-Accept-Encoding", "Grpc-Accept-Encoding"} {
		if values := header[key]; len(values) == 1 && values[0] == "" {
			delete(header, key)
		}
	}
}

// encodingOf returns the encoding that a header names, in the form of
// canonicalEncoding. Several lines of the header are one list (RFC 9110, section 5.3).
func encodingOf(header http.Header, key string) string {
	return canonicalEncoding(strings.Join(header.Values(key), ", "))
}

// canonicalEncoding returns the name of a content coding in the spelling that Connect
// knows. Case does not matter, and x-gzip means gzip (RFC 9110, section 8.4.1). Unknown
// names are returned unchanged.
func canonicalEncoding(name string) string {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case gzipEncoding, "x-gzip":
		return gzipEncoding
	case identity:
		return identity
	}
	return name
}

// canonicalQuery returns the query of a Connect GET request in the form that Connect
// reads.
func canonicalQuery(query string) string {
	parts := strings.Split(query, "&")
	at := map[string]int{} // the position of each parameter; the first one counts
	values := map[string]string{}
	for i, part := range parts {
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		if _, seen := at[name]; seen || err != nil || strings.Contains(part, ";") {
			continue
		}
		if value, err = url.QueryUnescape(value); err == nil {
			at[name], values[name] = i, value
		}
	}
	set := func(name, value string) { parts[at[name]] = name + "=" + url.QueryEscape(value) }

	compression := canonicalEncoding(values["compression"])
	if compression != values["compression"] {
		set("compression", compression)
	}
	if _, ok := at["message"]; ok {
		_, raw, _ := strings.Cut(parts[at["message"]], "=")
		isJSON := values["encoding"] == "json" && (compression == "" || compression == identity)
		isBase64 := values["base64"] == "1"
		if isBase64 || (isJSON && strings.Contains(raw, "+")) {
			if message := canonicalMessage(raw, isBase64); message != values["message"] {
				set("message", message)
			}
		}
	}
	return strings.Join(parts, "&")
}

// canonicalMessage returns the message of a Connect GET request with base64 that
// Connect reads. escaped is the message as in the URL, in base64 or JSON. In base64, an
// unescaped + may be the letter, because people who build URLs by hand forget to escape
// it.
func canonicalMessage(escaped string, isBase64 bool) string {
	// Neither JSON nor base64 contains this byte.
	const plus = 0x1f
	message, _ := url.QueryUnescape(strings.ReplaceAll(escaped, "+", "%1F")) // canonicalQuery has checked the escapes
	if isBase64 {
		letter := ""
		if plusIsLetter([]byte(message)) {
			letter = "-"
		}
		message = strings.NewReplacer("\x1f", letter, " ", "", "\t", "", "\n", "", "\r", "", "+", "-", "/", "_").Replace(message)
		return strings.TrimRight(message, "=")
	}
	r := jsonReader{data: bytes.TrimPrefix([]byte(message), byteOrderMark), plus: plus}
	r.read(jsonShapes[(&inferencev1.Image{}).ProtoReflect().Descriptor().FullName()])
	return string(bytes.ReplaceAll(r.data, []byte{plus}, []byte{' '}))
}

// rejectWebText answers clients that use gRPC-Web's text format, which is base64. The
// status is in the headers, where such clients can read it.
func rejectWebText(w http.ResponseWriter, mediaType string) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Grpc-Status", strconv.Itoa(int(connect.CodeUnimplemented)))
	h.Set("Grpc-Message", "this server supports only the binary format of gRPC-Web: generate the client with protoc-gen-grpc-web's mode=grpcweb instead of mode=grpcwebtext, or use Connect")
	w.WriteHeader(http.StatusOK)
}

// rejectHTTP1 answers a stream over HTTP/1.1, and closes its connection, because the
// client may be waiting for an answer before it sends more.
func rejectHTTP1(w http.ResponseWriter, r *http.Request, mediaType string, errorWriter *connect.ErrorWriter) {
	err := errors.New("PredictStream needs HTTP/2, but this request came over " + r.Proto +
		": use HTTP/2 (without TLS: with prior knowledge), check for proxies that support only HTTP/1.1, or call PredictBatch, which works over HTTP/1.1")
	w.Header().Set("Connection", "close")
	if strings.HasPrefix(mediaType, "application/grpc") || strings.HasPrefix(mediaType, "application/connect+") {
		_ = errorWriter.Write(w, r, connect.NewError(connect.CodeUnimplemented, err)) // the client may have disconnected
		return
	}
	http.Error(w, err.Error(), http.StatusHTTPVersionNotSupported)
}

// wrongContentType returns the text for a request whose content type no protocol uses,
// or none that the procedure supports.
func wrongContentType(r *http.Request) string {
	many := kindAt(r.URL.Path).many()
	if r.Method == http.MethodGet && !many {
		return "GET needs connect=v1, encoding=json and message=… in the query, and no body. To send more than a URL can hold, send JSON with POST.\n"
	}
	received := "a missing Content-Type"
	if ct := r.Header.Get("Content-Type"); ct != "" {
		const shown = 100
		received = fmt.Sprintf("Content-Type %q", ct[:min(len(ct), shown)])
	}
	if many {
		return received + " is not supported for streams and batches. Each message needs a prefix of five bytes, as in application/connect+json, application/connect+proto, gRPC and gRPC-Web: " +
			"use a generated client, buf curl or grpcurl. For JSON without a prefix, call Predict with one image.\n"
	}
	return received + " is not supported here. With curl, send JSON with --json '{\"rawData\": \"…\"}' or -H 'Content-Type: application/json'; " +
		"application/proto, gRPC and gRPC-Web are supported too. To send an image file without JSON, use /predict: curl -T photo.jpg HOST/predict\n"
}
