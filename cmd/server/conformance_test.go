package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	neturl "net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mienproject/mien/service"
)

var allCases = flag.Bool("conformance", false, "run all cases of connectconformance, not only a part of them")

const (
	// asConformance makes this test binary run as the server that connectconformance
	// examines. Its value is the file with the descriptors of that server's contract.
	asConformance = "TEST_AS_CONFORMANCE_SERVER"
	// conformancePackage is the package of that contract.
	conformancePackage = "connectrpc.conformance.v1"
)

// suite returns a file in .bin that "make unit" and others build, which a test suite of
// others needs. If it is missing, the test is skipped, or fails if CI is set.
func suite(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", ".bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI has to have this file; make suites builds it:", err)
		}
		t.Skip("make suites builds this file:", err)
	}
	return path
}

// TestConformance checks that the server passes the conformance tests of Connect, which
// cover Connect, gRPC and gRPC-Web over HTTP/1.1 and HTTP/2, with TLS and client
// certificates. The service that they call is served by this program's own HTTP server,
// middleware, codecs and compression.
func TestConformance(t *testing.T) {
	runner, contract := suite(t, "connectconformance"), suite(t, "conformance.binpb")
	args := []string{"--conf", "testdata/conformance.yaml", "--mode", "server", "--parallel", strconv.Itoa(runtime.NumCPU())}
	want := 3600
	if !*allCases {
		want = 150
		for _, pattern := range []string{
			"Basic/**/Codec:CODEC_JSON/Compression:COMPRESSION_GZIP/TLS:true/**", "Errors/**/Codec:CODEC_PROTO/Compression:COMPRESSION_IDENTITY/TLS:false/**",
			"Connect with GET/**/TLS:false/**", "Server Message Size/**/Protocol:PROTOCOL_GRPC/**/TLS:false/**", "TLS Client Certs/**",
		} {
			args = append(args, "--run", pattern)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, runner, append(args, "--", os.Args[0])...)
	cmd.Env = append(os.Environ(), asConformance+"="+contract)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	m := regexp.MustCompile(`Total cases: (\d+)\n(\d+) passed, (\d+) failed`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("connectconformance printed no summary:\n%s", out)
	}
	t.Logf("%s", m[0])
	total, _ := strconv.Atoi(string(m[1]))
	if total < want || string(m[2]) != string(m[1]) || string(m[3]) != "0" {
		t.Errorf("%s; all of at least %d cases must pass", m[0], want)
	}
}

// serveConformance is the program that connectconformance starts. It reads a
// ServerCompatRequest from stdin, starts the server that it describes, and writes a
// ServerCompatResponse to stdout. SIGTERM ends it.
func serveConformance() {
	code, err := conformanceServer(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func conformanceServer(stdin io.Reader, stdout io.Writer) (int, error) {
	contract, err := loadContract(os.Getenv(asConformance))
	if err != nil {
		return 0, err
	}
	request, err := contract.receive(stdin, "ServerCompatRequest")
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	args := []string{"--listen", "127.0.0.1:0", "--admin-listen", "", "--log-format", "json", "--drain-delay", "0s", "--model", "pigo"}
	file := func(flag, name string, data []byte) {
		path := filepath.Join(dir, name)
		err = errors.Join(err, os.WriteFile(path, data, 0o600))
		args = append(args, flag, path)
	}
	response := contract.message("ServerCompatResponse")
	if request.get("use_tls").Bool() {
		credentials := fields{request.get("server_creds").Message()}
		file("--tls-cert", "cert.pem", credentials.get("cert").Bytes())
		file("--tls-key", "key.pem", credentials.get("key").Bytes())
		response.set("pem_cert", credentials.get("cert"))
		if ca := request.get("client_tls_cert").Bytes(); len(ca) > 0 {
			file("--tls-client-ca", "ca.pem", ca)
		}
	}
	if err != nil {
		return 0, err
	}
	cfg, _, err := parse("/", args, io.Discard)
	if err != nil {
		return 0, err
	}
	cfg.extra = contract.handlers(int(request.get("message_receive_limit").Uint()))

	read, write := io.Pipe()
	go func() {
		lines := bufio.NewScanner(read)
		for lines.Scan() {
			var line struct{ Msg, URL string }
			if json.Unmarshal(lines.Bytes(), &line) != nil {
				fmt.Fprintln(os.Stderr, lines.Text())
				continue
			}
			switch line.Msg {
			case "listening":
				u, _ := neturl.Parse(line.URL)
				port, _ := strconv.Atoi(u.Port())
				response.set("host", protoreflect.ValueOf(u.Hostname()))
				response.set("port", protoreflect.ValueOf(uint32(port)))
			case "ready":
				if err := send(stdout, response); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
		}
	}()
	return runServer(context.Background(), cfg, write), nil
}

// fields gives access to the fields of a message by their names.
type fields struct{ protoreflect.Message }

func (f fields) field(name protoreflect.Name) protoreflect.FieldDescriptor {
	d := f.Descriptor().Fields().ByName(name)
	if d == nil {
		panic(fmt.Sprintf("%s has no field %s", f.Descriptor().FullName(), name))
	}
	return d
}

func (f fields) get(name protoreflect.Name) protoreflect.Value    { return f.Get(f.field(name)) }
func (f fields) has(name protoreflect.Name) bool                  { return f.Has(f.field(name)) }
func (f fields) set(name protoreflect.Name, v protoreflect.Value) { f.Set(f.field(name), v) }

// message returns a message in f, which is then present.
func (f fields) message(name protoreflect.Name) fields {
	return fields{f.Mutable(f.field(name)).Message()}
}

// add appends a message to a list in f.
func (f fields) add(name protoreflect.Name) fields {
	return fields{f.Mutable(f.field(name)).List().AppendMutable().Message()}
}

// all returns the messages of a list in f.
func (f fields) all(name protoreflect.Name) []fields {
	list := f.get(name).List()
	var all []fields
	for i := range list.Len() {
		all = append(all, fields{list.Get(i).Message()})
	}
	return all
}

// contract is that of the conformance tests. Its messages are dynamic, so that no generated
// code of theirs has to be a part of this repository.
type contract struct{ *protoregistry.Files }

// loadContract also makes the messages known to protojson, which prints those in an Any.
func loadContract(name string) (contract, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return contract{}, err
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(data, set); err != nil {
		return contract{}, err
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return contract{}, err
	}
	files.RangeFilesByPackage(conformancePackage, func(f protoreflect.FileDescriptor) bool {
		for i := range f.Messages().Len() {
			register(f.Messages().Get(i))
		}
		return true
	})
	return contract{files}, nil
}

func register(m protoreflect.MessageDescriptor) {
	if err := protoregistry.GlobalTypes.RegisterMessage(dynamicpb.NewMessageType(m)); err != nil {
		panic(err)
	}
	for i := range m.Messages().Len() {
		register(m.Messages().Get(i))
	}
}

func (c contract) descriptor(name protoreflect.FullName) protoreflect.Descriptor {
	d, err := c.FindDescriptorByName(conformancePackage + "." + name)
	if err != nil {
		panic(err)
	}
	return d
}

func (c contract) message(name protoreflect.FullName) fields {
	return fields{dynamicpb.NewMessage(c.descriptor(name).(protoreflect.MessageDescriptor))}
}

// receive reads a message with a prefix of four bytes.
func (c contract) receive(r io.Reader, name protoreflect.FullName) (fields, error) {
	var size uint32
	if err := binary.Read(r, binary.BigEndian, &size); err != nil {
		return fields{}, err
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return fields{}, err
	}
	m := c.message(name)
	return m, proto.Unmarshal(data, m.Interface())
}

// send is the inverse of receive.
func send(w io.Writer, m fields) error {
	data, err := proto.Marshal(m.Interface())
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

// handlers returns the conformance service, whose messages have at most limit bytes; 0
// means no limit.
func (c contract) handlers(limit int) map[string]http.Handler {
	const unlimited = 16 << 20 // the middleware's own limit for a body is lower
	decompressed := int64(unlimited)
	if limit > 0 {
		decompressed = int64(limit)
	}
	methods := c.descriptor("ConformanceService").(protoreflect.ServiceDescriptor).Methods()
	path := func(name protoreflect.Name) string {
		return fmt.Sprintf("/%s.ConformanceService/%s", conformancePackage, name)
	}
	options := func(name protoreflect.Name) connect.HandlerOption {
		return connect.WithHandlerOptions(
			service.Encodings(decompressed),
			connect.WithReadMaxBytes(limit),
			connect.WithSchema(methods.ByName(name)),
			connect.WithRequestInitializer(func(spec connect.Spec, message any) error {
				*message.(*dynamicpb.Message) = *dynamicpb.NewMessage(spec.Schema.(protoreflect.MethodDescriptor).Input())
				return nil
			}),
		)
	}
	s := conformance{c}
	return map[string]http.Handler{
		path("Unary"):           connect.NewUnaryHandler(path("Unary"), s.unary, options("Unary")),
		path("IdempotentUnary"): connect.NewUnaryHandler(path("IdempotentUnary"), s.unary, options("IdempotentUnary"), connect.WithIdempotency(connect.IdempotencyNoSideEffects)),
		path("ClientStream"):    connect.NewClientStreamHandler(path("ClientStream"), s.clientStream, options("ClientStream")),
		path("ServerStream"):    connect.NewServerStreamHandler(path("ServerStream"), s.serverStream, options("ServerStream")),
		path("BidiStream"):      connect.NewBidiStreamHandler(path("BidiStream"), s.bidiStream, options("BidiStream")),
		path("Unimplemented"):   connect.NewUnaryHandler(path("Unimplemented"), s.unimplemented, options("Unimplemented")),
	}
}

// conformance implements the service: it answers what the requests ask it to answer, and
// reports what it received.
type conformance struct{ contract }

// definition says what to answer. It is that of a unary request or of a stream.
type definition struct {
	header, trailer http.Header
	data            [][]byte
	failure         *connect.Error
	delay           time.Duration
}

func definitionOf(request fields) definition {
	from := fields{request.get("response_definition").Message()}
	d := definition{
		header:  headerOf(from.all("response_headers")),
		trailer: headerOf(from.all("response_trailers")),
		delay:   time.Duration(from.get("response_delay_ms").Uint()) * time.Millisecond,
	}
	if data := from.field("response_data"); data.IsList() {
		list := from.Get(data).List()
		for i := range list.Len() {
			d.data = append(d.data, list.Get(i).Bytes())
		}
	} else if from.Has(data) {
		d.data = [][]byte{from.Get(data).Bytes()}
	}
	if from.has("error") {
		failure := fields{from.get("error").Message()}
		d.failure = connect.NewError(connect.Code(failure.get("code").Enum()), errors.New(failure.get("message").String()))
		for _, detail := range failure.all("details") {
			d.addDetail(&anypb.Any{TypeUrl: detail.get("type_url").String(), Value: detail.get("value").Bytes()})
		}
	}
	return d
}

func (d definition) addDetail(m proto.Message) {
	detail, err := connect.NewErrorDetail(m)
	if err != nil {
		panic(err)
	}
	d.failure.AddDetail(detail)
}

// headerOf converts a list of messages Header.
func headerOf(list []fields) http.Header {
	h := http.Header{}
	for _, f := range list {
		values := f.get("value").List()
		for i := range values.Len() {
			h.Add(f.get("name").String(), values.Get(i).String())
		}
	}
	return h
}

// copyHeader adds the values of one header to another.
func copyHeader(to, from http.Header) {
	for name, values := range from {
		to[name] = append(to[name], values...)
	}
}

// A call is what a handler knows about its request.
type call struct {
	ctx    context.Context
	method protoreflect.MethodDescriptor
	header http.Header
	query  neturl.Values
}

// payload returns an answer, and the payload in it.
func (c call) payload(data []byte) (answer *dynamicpb.Message, payload fields) {
	answer = dynamicpb.NewMessage(c.method.Output())
	payload = fields{answer}.message("payload")
	payload.set("data", protoreflect.ValueOf(data))
	return answer, payload
}

// report fills a RequestInfo with everything that was received.
func (c call) report(info fields, requests []*dynamicpb.Message) error {
	addHeaders(info, "request_headers", c.header)
	if deadline, ok := c.ctx.Deadline(); ok {
		info.set("timeout_ms", protoreflect.ValueOf(max(0, time.Until(deadline).Milliseconds())))
	}
	if len(c.query) > 0 {
		addHeaders(info.message("connect_get_info"), "query_params", c.query)
	}
	return addRequests(info, requests)
}

func addHeaders(to fields, list protoreflect.Name, from map[string][]string) {
	for name, values := range from {
		header := to.add(list)
		header.set("name", protoreflect.ValueOf(name))
		all := header.Mutable(header.field("value")).List()
		for _, v := range values {
			all.Append(protoreflect.ValueOf(v))
		}
	}
}

func addRequests(info fields, requests []*dynamicpb.Message) error {
	for _, r := range requests {
		packed, err := anypb.New(r)
		if err != nil {
			return err
		}
		request := info.add("requests")
		request.set("type_url", protoreflect.ValueOf(packed.GetTypeUrl()))
		request.set("value", protoreflect.ValueOf(packed.GetValue()))
	}
	return nil
}

// fail returns the error that d asks for. Before the first answer, its details have what
// was received.
func (s conformance) fail(c call, d definition, answered bool, requests []*dynamicpb.Message) error {
	if d.failure == nil {
		return nil
	}
	if !answered {
		info := s.message("ConformancePayload.RequestInfo")
		if err := c.report(info, requests); err != nil {
			return err
		}
		d.addDetail(info.Interface())
	}
	return d.failure
}

// wait waits for the time that d asks for.
func (d definition) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d.delay):
		return nil
	}
}

// one answers with one message.
func (s conformance) one(c call, d definition, requests []*dynamicpb.Message) (*connect.Response[dynamicpb.Message], error) {
	if err := s.fail(c, d, false, requests); err != nil {
		if failure := new(connect.Error); errors.As(err, &failure) {
			copyHeader(failure.Meta(), d.header)
			copyHeader(failure.Meta(), d.trailer)
		}
		return nil, err
	}
	var data []byte
	if len(d.data) > 0 {
		data = d.data[0]
	}
	answer, payload := c.payload(data)
	if err := c.report(payload.message("request_info"), requests); err != nil {
		return nil, err
	}
	response := connect.NewResponse(answer)
	copyHeader(response.Header(), d.header)
	copyHeader(response.Trailer(), d.trailer)
	return response, d.wait(c.ctx)
}

func (s conformance) unary(ctx context.Context, r *connect.Request[dynamicpb.Message]) (*connect.Response[dynamicpb.Message], error) {
	c := call{ctx, r.Spec().Schema.(protoreflect.MethodDescriptor), r.Header(), r.Peer().Query}
	return s.one(c, definitionOf(fields{r.Msg}), []*dynamicpb.Message{r.Msg})
}

func (s conformance) clientStream(ctx context.Context, stream *connect.ClientStream[dynamicpb.Message]) (*connect.Response[dynamicpb.Message], error) {
	var d definition
	var requests []*dynamicpb.Message
	for stream.Receive() {
		if len(requests) == 0 {
			d = definitionOf(fields{stream.Msg()})
		}
		requests = append(requests, stream.Msg())
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	return s.one(call{ctx, stream.Spec().Schema.(protoreflect.MethodDescriptor), stream.RequestHeader(), stream.Peer().Query}, d, requests)
}

func (s conformance) serverStream(ctx context.Context, r *connect.Request[dynamicpb.Message], stream *connect.ServerStream[dynamicpb.Message]) error {
	a := &answers{call: call{ctx, r.Spec().Schema.(protoreflect.MethodDescriptor), r.Header(), r.Peer().Query}, conn: stream.Conn()}
	a.begin(definitionOf(fields{r.Msg}))
	return s.finish(a, []*dynamicpb.Message{r.Msg})
}

func (s conformance) bidiStream(ctx context.Context, stream *connect.BidiStream[dynamicpb.Message, dynamicpb.Message]) error {
	a := &answers{call: call{ctx, stream.Spec().Schema.(protoreflect.MethodDescriptor), stream.RequestHeader(), stream.Peer().Query}, conn: stream.Conn()}
	var requests []*dynamicpb.Message
	fullDuplex := false
	for first := true; ; first = false {
		request, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return s.finish(a, requests)
		}
		if err != nil {
			return err
		}
		requests = append(requests, request)
		if first {
			fullDuplex = fields{request}.get("full_duplex").Bool()
			a.begin(definitionOf(fields{request}))
		}
		if !fullDuplex {
			continue
		}
		if a.sent == len(a.definition.data) {
			return s.finish(a, requests)
		}
		if err := a.send(requests); err != nil {
			return err
		}
		requests = nil
	}
}

func (conformance) unimplemented(context.Context, *connect.Request[dynamicpb.Message]) (*connect.Response[dynamicpb.Message], error) {
	return nil, connect.NewError(connect.CodeUnimplemented, errors.New("not implemented"))
}

// answers are those of a stream.
type answers struct {
	call
	conn       connect.StreamingHandlerConn
	definition definition
	sent       int
}

func (a *answers) begin(d definition) {
	a.definition = d
	copyHeader(a.conn.ResponseHeader(), d.header)
	copyHeader(a.conn.ResponseTrailer(), d.trailer)
}

// send sends the next answer. It reports the requests, and the first one everything else
// that was received.
func (a *answers) send(requests []*dynamicpb.Message) error {
	if a.sent == 0 {
		// The header comes before the delay.
		if err := a.conn.Send(nil); err != nil {
			return err
		}
	}
	answer, payload := a.payload(a.definition.data[a.sent])
	var err error
	if a.sent == 0 {
		err = a.report(payload.message("request_info"), requests)
	} else if len(requests) > 0 {
		err = addRequests(payload.message("request_info"), requests)
	}
	if err != nil {
		return err
	}
	if err := a.definition.wait(a.ctx); err != nil {
		return err
	}
	a.sent++
	return a.conn.Send(answer)
}

// finish sends all answers that are left, and returns the error that the client asked for.
func (s conformance) finish(a *answers, requests []*dynamicpb.Message) error {
	for a.sent < len(a.definition.data) {
		if err := a.send(requests); err != nil {
			return err
		}
		requests = nil
	}
	return s.fail(a.call, a.definition, a.sent > 0, requests)
}
