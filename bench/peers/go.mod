// Mien beside what people would pick instead. A module of its own, because one of them is
// written in Go, and a server that someone else would write is not a part of Mien.
module github.com/mienproject/mien/bench/peers

go 1.26.0

toolchain go1.26.11

replace github.com/mienproject/mien => ../..

replace github.com/mienproject/mien/bench => ..

require (
	github.com/alecthomas/kong v1.17.0
	github.com/esimov/pigo v1.4.6
	github.com/klauspost/cpuid/v2 v2.4.2
	github.com/mienproject/mien v0.0.0-00010101000000-000000000000
	github.com/mienproject/mien/bench v0.0.0-00010101000000-000000000000
	gonum.org/v1/plot v0.17.0
)

require (
	codeberg.org/go-fonts/liberation v0.5.0 // indirect
	codeberg.org/go-latex/latex v0.2.0 // indirect
	codeberg.org/go-pdf/fpdf v0.11.1 // indirect
	connectrpc.com/connect v1.21.1 // indirect
	git.sr.ht/~sbinet/gg v0.7.0 // indirect
	github.com/ajstarks/svgo v0.0.0-20211024235047-1546f124cd8b // indirect
	github.com/golang/freetype v0.0.0-20170609003504-e2365dfdc4a0 // indirect
	golang.org/x/image v0.47.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261026165753-2ffab32bce7e // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
