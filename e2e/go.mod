module github.com/mienproject/mien/e2e

go 1.26.0

toolchain go1.26.11

require (
	go.opentelemetry.io/proto/otlp v1.11.0
	google.golang.org/protobuf v1.36.12
)

require github.com/yuin/goldmark v1.8.7
