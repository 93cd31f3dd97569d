// Package web is the page at /: a person's way to give the server a picture, see
// the faces, and take the answer away. It is plain HTML, CSS and JavaScript, as
// the browser gets it, and knows of the server only the JSON on the wire.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed page
var files embed.FS

// openAPI is generated from the contract: make generate.
//
//go:embed openapi.yaml
var openAPI []byte

// policy lets the page load nothing but its own files and call nothing but its
// own server. Pictures that were given to it are blobs.
const policy = "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; " +
	"img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// contentTypes are those of the page's files; the system's table of them may
// say something else, or nothing.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".jpg":  "image/jpeg",
	".txt":  "text/plain; charset=utf-8",
	".yaml": "application/yaml; charset=utf-8",
}

// Page returns the handler of / and of the files below /page/. The page tells
// its visitors the version. The handler is safe for concurrent use; what it has
// not, it answers with 404.
func Page(version string) (http.Handler, error) {
	resources := map[string]http.Handler{}
	entries, err := fs.ReadDir(files, "page")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		data, err := fs.ReadFile(files, path.Join("page", entry.Name()))
		if err != nil {
			return nil, err
		}
		where := "/page/" + entry.Name()
		if entry.Name() == "index.html" {
			where = "/"
			if data, err = render(data, version); err != nil {
				return nil, err
			}
		}
		resources[where] = resource(entry.Name(), data)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h, ok := resources[r.URL.Path]; ok {
			h.ServeHTTP(w, r)
		} else {
			http.NotFound(w, r)
		}
	}), nil
}

func render(page []byte, version string) ([]byte, error) {
	t, err := template.New("").Parse(string(page))
	if err != nil {
		return nil, fmt.Errorf("the page: %w", err)
	}
	var buf bytes.Buffer
	if err := t.Execute(&buf, map[string]string{"Version": version}); err != nil {
		return nil, fmt.Errorf("the page: %w", err)
	}
	return buf.Bytes(), nil
}

// OpenAPI returns the handler of the JSON interface's description, OpenAPI 3.1.
func OpenAPI() http.Handler { return resource("openapi.yaml", openAPI) }

// resource serves data. Browsers ask each time whether they still have it, which
// costs them little, so that a new version of the server has its own page at once.
func resource(name string, data []byte) http.Handler {
	sum := sha256.Sum256(data)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", contentTypes[path.Ext(name)])
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", tag)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Permissions-Policy", "camera=(self), clipboard-read=(self), clipboard-write=(self), microphone=(), geolocation=()")
		// An SVG opened by itself and a worker have a policy of their own.
		h.Set("Content-Security-Policy", policy)
		// Not http.ServeContent, which reads Range headers: a long one costs much. Without
		// support for ranges, a server ignores them (RFC 9110, section 14.2).
		if matches(r.Header.Values("If-None-Match"), tag) {
			h.Del("Content-Type")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data) // net/http leaves it out of answers to HEAD
	})
}

// matches reports whether the tag is among those of an If-None-Match header, which are
// compared weakly (RFC 9110, section 13.1.2).
func matches(values []string, tag string) bool {
	for _, value := range values {
		for candidate := range strings.SplitSeq(value, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == tag {
				return true
			}
		}
	}
	return false
}
