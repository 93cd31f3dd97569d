// Package web serves the page at /, where a user sends the server an image, sees the
// faces and exports the answer, and the OpenAPI description of the JSON interface. The
// page is plain HTML, CSS and JavaScript modules, without a build step, and uses the
// server through its public JSON interface only. page/page.js lists the modules; test/
// has their tests, for Node.js.
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
	"sync"
)

//go:embed page
var files embed.FS

// openAPI is generated from proto/ by make generate.
//
//go:embed openapi.yaml
var openAPI []byte

// policy is the Content-Security-Policy: the page may load its own files and call its
// own server, and nothing else. Images that the user adds are blobs.
const policy = "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; " +
	"img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// contentTypes maps file extensions to content types. The operating system's table,
// which package mime reads, may differ or be missing.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".jpg":  "image/jpeg",
	".txt":  "text/plain; charset=utf-8",
	".yaml": "application/yaml; charset=utf-8",
}

// Page returns the handler of / and of the files below /page/. The page shows the
// version. The handler answers other paths with 404, and is safe for concurrent use.
func Page(version string) (http.Handler, error) {
	resources := map[string]http.Handler{}
	entries, err := fs.ReadDir(files, "page")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		name := path.Join("page", entry.Name())
		resources["/"+name] = resource(name, func() []byte {
			data, _ := files.ReadFile(name) // it is part of this program
			return data
		})
	}
	// The page itself is at / only.
	const index = "page/index.html"
	delete(resources, "/"+index)
	data, err := files.ReadFile(index)
	if err == nil {
		data, err = render(data, version)
	}
	if err != nil {
		return nil, err
	}
	resources["/"] = resource(index, func() []byte { return data })
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

// OpenAPI returns the handler of the OpenAPI 3.1 description of the JSON interface. It
// is safe for concurrent use.
func OpenAPI() http.Handler {
	return resource("openapi.yaml", func() []byte { return openAPI })
}

// resource serves the data that read returns, which is called at the first request: most
// servers are asked for faces only. Browsers revalidate it by its ETag on each use, so that
// they show the page of a new version of the server at once.
func resource(name string, read func() []byte) http.Handler {
	content := sync.OnceValues(func() (data []byte, etag string) {
		data = read()
		sum := sha256.Sum256(data)
		return data, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, etag := content()
		h := w.Header()
		h.Set("Content-Type", contentTypes[path.Ext(name)])
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", etag)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Permissions-Policy", "camera=(self), clipboard-read=(self), clipboard-write=(self), microphone=(), geolocation=()")
		// Workers, and an SVG opened by itself, are subject to the policy of their own
		// response, not of the page's.
		h.Set("Content-Security-Policy", policy)
		// http.ServeContent would parse the Range header, which takes long if it is long. A
		// server without support for ranges ignores it (RFC 9110, section 14.2).
		if matchesETag(r.Header.Values("If-None-Match"), etag) {
			h.Del("Content-Type")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data) // for HEAD, net/http omits the body
	})
}

// matchesETag reports whether the values of an If-None-Match header have the ETag. The
// comparison is weak (RFC 9110, section 13.1.2).
func matchesETag(values []string, etag string) bool {
	for _, value := range values {
		for candidate := range strings.SplitSeq(value, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == etag {
				return true
			}
		}
	}
	return false
}
