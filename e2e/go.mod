module github.com/mienproject/mien/e2e

go 1.26.0

toolchain go1.26.11

replace github.com/mienproject/mien => ..

require (
	github.com/mienproject/mien v0.0.0-00010101000000-000000000000
	go.opentelemetry.io/proto/otlp v1.11.0
	google.golang.org/protobuf v1.36.12
)

require github.com/yuin/goldmark v1.8.7

require (
	connectrpc.com/connect v1.21.1 // indirect
	golang.org/x/sys v0.49.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261026165753-2ffab32bce7e // indirect
)
