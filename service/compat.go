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

// The content codings that requests may have. gzipEncoding is also what answers to
// others name.
const (
	gzipEncoding = "gzip"
	identity     = "identity"
)

// Compat makes a handler of Connect's get on with more clients:
//
//   - gzip may be spelled as HTTP allows it;
//   - base64 in a URL may have either alphabet, padding, white space and a bare +;
//   - an answer never has an empty Grpc-Encoding or Connect-Content-Encoding, which
//     Connect sends when it does not know the request's, and for which gRPC clients
//     show INTERNAL in place of UNIMPLEMENTED, nor an empty list of what is accepted;
//   - requests that Connect refuses with a bare status get a text that says what to send.
func Compat(next http.Handler) http.Handler {
	errorWriter := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // empty when it cannot be read
		if strings.HasPrefix(mediaType, "application/grpc-web-text") {
			refuseWebText(w, mediaType)
			return
		}
		if kindAt(r.URL.Path) == streaming && r.ProtoMajor < 2 {
			refuseHTTP1(w, r, mediaType, errorWriter)
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
					_, _ = io.WriteString(w, wrongContentType(r)) // the caller may have left
				}
			},
			Write: func(f httpsnoop.WriteFunc) httpsnoop.WriteFunc {
				return func(p []byte) (int, error) { dropEmptyEncodings(w.Header()); return f(p) }
			},
			Flush: func(f httpsnoop.FlushFunc) httpsnoop.FlushFunc {
				return func() { dropEmptyEncodings(w.Header()); f() }
			},
		}), r)
		dropEmptyEncodings(w.Header()) // of an answer without a body
	})
}

// encodingHeaders say how a message is compressed: HTTP's, that of Connect's streams,
// and gRPC's.
var encodingHeaders = [...]string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"}

func dropEmptyEncodings(header http.Header) {
	for _, key := range [...]string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding", "Accept-Encoding", "Connect-Accept-Encoding", "Grpc-Accept-Encoding"} {
		if values := header[key]; len(values) == 1 && values[0] == "" {
			delete(header, key)
		}
	}
}

// encodingOf returns what a header says of the compression, as canonicalEncoding does.
// Several lines of it are a list (RFC 9110, section 5.3).
func encodingOf(header http.Header, key string) string {
	return canonicalEncoding(strings.Join(header.Values(key), ", "))
}

// canonicalEncoding returns the name of a content coding as Connect knows it. Names
// have no case, and x-gzip is gzip (RFC 9110, section 8.4.1). Others stay as they are.
func canonicalEncoding(name string) string {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case gzipEncoding, "x-gzip":
		return gzipEncoding
	case identity:
		return identity
	}
	return name
}

// canonicalQuery returns the query of Connect's GET as Connect reads it.
func canonicalQuery(query string) string {
	parts := strings.Split(query, "&")
	at := map[string]int{} // of the first of each parameter, which counts
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

// canonicalMessage returns the message of Connect's GET, which is escaped as in the URL
// and is base64 or JSON, with the base64 that Connect reads. In base64, a bare + may be
// the letter: those who build URLs by hand forget to escape it.
func canonicalMessage(escaped string, isBase64 bool) string {
	// No JSON and no base64 has this byte.
	const plus = 0x1f
	message, _ := url.QueryUnescape(strings.ReplaceAll(escaped, "+", "%1F")) // it has been unescaped before
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

// refuseWebText answers a client of gRPC-Web's other form, base64 throughout, so that
// it can read the answer: the status is in the headers.
func refuseWebText(w http.ResponseWriter, mediaType string) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Grpc-Status", strconv.Itoa(int(connect.CodeUnimplemented)))
	h.Set("Grpc-Message", "this server speaks binary gRPC-Web only: generate the client with protoc-gen-grpc-web's mode=grpcweb in place of mode=grpcwebtext, or use Connect")
	w.WriteHeader(http.StatusOK)
}

// refuseHTTP1 answers a stream that came over HTTP/1.1, and ends its connection: the
// client may be waiting for an answer to what it has sent.
func refuseHTTP1(w http.ResponseWriter, r *http.Request, mediaType string, errorWriter *connect.ErrorWriter) {
	err := errors.New("PredictStream needs HTTP/2, but this request came over " + r.Proto +
		": use HTTP/2 (without TLS: with prior knowledge), check for proxies that speak HTTP/1.1 only, or call PredictBatch, which works over HTTP/1.1")
	w.Header().Set("Connection", "close")
	if strings.HasPrefix(mediaType, "application/grpc") || strings.HasPrefix(mediaType, "application/connect+") {
		_ = errorWriter.Write(w, r, connect.NewError(connect.CodeUnimplemented, err)) // the caller may have left
		return
	}
	http.Error(w, err.Error(), http.StatusHTTPVersionNotSupported)
}

// wrongContentType is the answer to a request whose content type no protocol has, or not
// for that procedure.
func wrongContentType(r *http.Request) string {
	many := kindAt(r.URL.Path).many()
	if r.Method == http.MethodGet && !many {
		return "GET needs connect=v1, encoding=json and message=… in the query, and no body. To send more than a URL holds, POST JSON.\n"
	}
	was := "no Content-Type"
	if ct := r.Header.Get("Content-Type"); ct != "" {
		const shown = 100
		was = fmt.Sprintf("Content-Type %q", ct[:min(len(ct), shown)])
	}
	if many {
		return was + " is not supported for many images. Each message needs a prefix of five bytes, as application/connect+json, application/connect+proto, gRPC and gRPC-Web have it: " +
			"use a generated client, buf curl or grpcurl. For JSON without a prefix, call Predict with one image.\n"
	}
	return was + " is not supported here. With curl, send JSON with --json '{\"rawData\": \"…\"}' or -H 'Content-Type: application/json'; " +
		"application/proto, gRPC and gRPC-Web are taken as well. To send an image as it is, use /predict: curl -T photo.jpg HOST/predict\n"
}
