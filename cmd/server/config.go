package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	neturl "net/url"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/dustin/go-humanize"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/networks"
	"github.com/mienproject/mien/face/pigo"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/modelstore"
	"github.com/mienproject/mien/onnx"
	"github.com/mienproject/mien/service"
)

// procs is the number of cores that this process may use: GOMAXPROCS before run raises
// it.
var procs = runtime.GOMAXPROCS(0)

// version is that of the release; CHANGELOG.md says what each one brought.
const version = "0.1.0"

const description = `Mien answers one question: where are the faces in this image?

It speaks gRPC, gRPC-Web, Connect and plain HTTP/JSON on one port:

    curl -s localhost:8080/inference.v1.Inference/Predict \
      --json '{"rawData": "<base64 of a JPEG, PNG, GIF, WebP, BMP or TIFF>"}'

Open http://localhost:8080/ in a browser to try it, and see /openapi.yaml for the JSON interface.

Every flag has an environment variable, named beside it; a flag wins. Repeatable flags take a list with commas there. Sizes may be written as 16MiB, durations as 1m30s. The defaults of limits are those that fit into the memory and the CPU quota of this process's container, or else of this machine. Traces are exported by OTLP where OpenTelemetry's variables say so, OTEL_EXPORTER_OTLP_ENDPOINT above all.`

// config is what flags and environment say.
type config struct {
	Listen       []string `group:"Network" default:":8080" placeholder:"ADDR" help:"Address to listen on, host:port (default :8080; port 0 picks a free one) or unix:PATH. Repeatable."`
	AdminListen  *string  `group:"Network" placeholder:"ADDR" help:"Address for operators, with /metrics and /debug/pprof/ (default ${admin_listen}; none with --reuse-port). Empty or off: none. Whoever reaches it can profile the process."`
	ReusePort    bool     `group:"Network" help:"Let other processes listen on the same ports (SO_REUSEPORT): the system spreads connections over them."`
	TLSCert      string   `group:"Network" placeholder:"FILE" help:"Certificate chain, PEM. With it and --tls-key, TLS only."`
	TLSKey       string   `group:"Network" placeholder:"FILE" help:"Private key of the certificate, PEM."`
	CORSOrigin   []string `group:"Network" name:"cors-origin" placeholder:"ORIGIN" help:"Origin whose pages may call from a browser, such as https://app.example.com; https://*.example.com for all below, * for all. Repeatable. Without it only pages of this server's own origin may."`
	CORSHeader   []string `group:"Network" name:"cors-header" placeholder:"NAME" help:"Header that those pages may send beside the protocols' own, such as Authorization. Repeatable."`
	TrustedProxy []string `group:"Network" placeholder:"CIDR" help:"Network or address of a proxy in front, or unix for those that come by a socket: of its callers, the log has the address that it tells in X-Forwarded-For. Repeatable."`

	NoPage bool `group:"Network" help:"Serve no page at /. Everything else stays as it is, /openapi.yaml among it."`

	Model       []string `group:"Models" default:"pigo" placeholder:"NAME" help:"Model to serve (default pigo, which is built in): a known name (${models}), which is fetched once unless it is built in, or NAME=PATH of an ONNX file. Repeatable; the first answers when a caller names none."`
	ONNXRuntime string   `group:"Models" name:"onnxruntime" placeholder:"FILE" help:"Shared library of ONNX Runtime, which all models but pigo need. Without it, the server looks beside its binary and in the system's library folders."`
	ModelMirror string   `group:"Models" name:"model-mirror" placeholder:"URL" help:"Where to fetch known models from, as URL/NAME/FILE, instead of from their publishers."`

	MaxImageBytes    byteSize       `group:"Limits" default:"${max_image_bytes}" placeholder:"SIZE" help:"Largest image, in bytes as sent (default ${max_image_bytes}). Messages may be 5/12 larger, so that base64 with line breaks fits."`
	MaxBatchBytes    *byteSize      `group:"Limits" placeholder:"SIZE" help:"All images of a batch together (default ${max_batch_bytes}), of which there may be 100. Each has to keep to --max-image-bytes as well."`
	MaxRequests      *int           `group:"Limits" placeholder:"N" help:"Requests in flight, open streams among them (default ${max_requests}). Anything over the limit is refused as OVERLOADED before its body is read, unless a slow caller can make room."`
	MaxBodyBytes     *byteSize      `group:"Limits" placeholder:"SIZE" help:"The bodies of all requests in flight together (default ${max_body_bytes}), as they come, of which streams and batches have at most half. Anything over the limit is refused as OVERLOADED, unless a slow caller can make room; streams wait."`
	MaxPixels        *int64         `group:"Limits" placeholder:"N" help:"Maximum pixels of one image, width times height (default ${max_pixels})."`
	MaxInflightBytes *byteSize      `group:"Limits" placeholder:"SIZE" help:"Memory for all images that are being decoded and searched for faces (default ${max_inflight_bytes}). Others wait. An image that needs more than this alone is refused as TOO_MANY_PIXELS, whatever --max-pixels allows."`
	Workers          *int           `group:"Limits" placeholder:"N" help:"Images worked on at once (default: the number of cores, or of whole ones in a container's quota, here ${workers})."`
	Queue            *int           `group:"Limits" placeholder:"N" help:"Images that may wait for a worker (default: 4 for each worker). Anything over the limit is refused as OVERLOADED."`
	Timeout          time.Duration  `group:"Limits" default:"${timeout}" placeholder:"DURATION" help:"Maximum time for a call once it has been read, or for an image of a stream or batch, whatever deadline its caller sets (default ${timeout})."`
	DefaultTimeout   *time.Duration `group:"Limits" placeholder:"DURATION" help:"The same for callers who set no deadline; at most --timeout (default ${default_timeout}, or --timeout if that is less)."`
	StreamIdle       *time.Duration `group:"Limits" name:"stream-idle-timeout" placeholder:"DURATION" help:"How long a stream may bring no image, or take no answer, before it is ended (default ${stream_idle}, or --timeout if that is more: callers may wait for one answer before they send the next image)."`

	DrainDelay   time.Duration  `group:"Operation" default:"2s" placeholder:"DURATION" help:"After SIGTERM, go on taking calls for so long (default 2s) while /readyz already says no, so that load balancers see it. An interrupt (Ctrl-C) or a second SIGTERM skips it."`
	DrainTimeout *time.Duration `group:"Operation" placeholder:"DURATION" help:"Then let running calls end for at most so long (default ${drain_timeout}, or 5s more than --timeout if that is more). Another SIGTERM cuts them off."`
	ConnAge      time.Duration  `group:"Operation" name:"max-connection-age" default:"0s" placeholder:"DURATION" help:"Ask clients to reconnect, with their next call, when a connection is older than this, give or take a tenth (default 0s: never). Behind a balancer that spreads connections and not calls, 5m brings new replicas into use."`
	Environment  string         `group:"Operation" default:"production" env:"MIEN_ENVIRONMENT,RUN_ENV" placeholder:"NAME" help:"What answers say in meta_data.environment: production, staging or development (default production)."`
	LogFormat    string         `group:"Operation" default:"auto" placeholder:"FORMAT" help:"text, json, or auto (default): text on a terminal, JSON otherwise. Logs go to standard error."`
	LogLevel     logLevel       `group:"Operation" default:"info" placeholder:"LEVEL" help:"debug, info (default), warn or error. Probes of health are logged at debug."`

	Version bool `env:"-" help:"Print the version and the models, and exit."`

	proxies proxies // of TrustedProxy

	resources    resources
	resourcesErr error  // why some of them may be missing
	limits       limits // what the flags say, and for the others what fits
}

// parse reads flags and environment, and below root what this process may use. done
// is true if --help or --version was answered on stdout.
func parse(root string, args []string, stdout io.Writer) (cfg *config, done bool, err error) {
	cfg = &config{}
	defaults := service.DefaultConfig()
	cfg.resources, cfg.resourcesErr = readResources(root)
	cfg.MaxImageBytes = byteSize(defaults.MaxImageBytes)
	_ = cfg.limit() // for --help
	parser, err := kong.New(cfg,
		kong.Name("mien"),
		kong.Description(description),
		kong.DefaultEnvars(envPrefix),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
		kong.Writers(stdout, io.Discard),
		kong.Exit(func(int) { done = true }), // called by --help
		kong.Vars{
			"admin_listen":       adminDefault,
			"max_image_bytes":    byteSize(defaults.MaxImageBytes).String(),
			"max_batch_bytes":    cfg.limits.batch.String(),
			"max_requests":       strconv.Itoa(cfg.limits.requests),
			"max_body_bytes":     cfg.limits.body.String(),
			"stream_idle":        defaults.StreamIdle.String(),
			"max_pixels":         strconv.FormatInt(cfg.limits.pixels, 10),
			"max_inflight_bytes": cfg.limits.inflight.String(),
			"workers":            strconv.Itoa(cfg.limits.workers),
			"timeout":            defaults.Timeout.String(),
			"default_timeout":    defaults.DefaultTimeout.String(),
			"drain_timeout":      minDrain.String(),
			"models":             describeModels(onnx.Available()),
		},
	)
	if err != nil {
		return nil, false, err
	}
	// An empty variable is one that is not set: compose files and charts set many.
	for _, f := range parser.Model.Flags {
		for _, env := range f.Envs {
			if v, ok := os.LookupEnv(env); ok && v == "" {
				_ = os.Unsetenv(env) // fails for names that no flag has
			}
		}
	}
	_, err = parser.Parse(args)
	if done {
		return nil, true, nil
	}
	if err := errors.Join(err, unknownVariables(parser.Model.Flags, os.Environ())); err != nil {
		return nil, false, err
	}
	if cfg.Version {
		_, err := fmt.Fprintf(stdout, "mien %s, models: %s; %s %s/%s\n",
			version, describeModels(onnx.Available()), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return nil, true, err
	}
	return cfg, false, nil
}

const envPrefix = "MIEN"

// injected matches the variables that Kubernetes sets in every container for a
// service named "mien" or "mien-something".
var injected = regexp.MustCompile(`^MIEN_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// unknownVariables refuses unknown MIEN_ variables, so that a misspelled limit is not
// ignored.
func unknownVariables(flags []*kong.Flag, environ []string) error {
	known := map[string]bool{"MIEN_URL": true} // the shell client's
	for _, f := range flags {
		for _, env := range f.Envs {
			known[env] = true
		}
	}
	var errs []error
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, envPrefix+"_") && !known[name] && !injected.MatchString(name) {
			errs = append(errs, fmt.Errorf("the environment has %s, which is not a variable of this version: correct or remove it", name))
		}
	}
	return errors.Join(errs...)
}

// service returns the configuration of the service, with its models open, or everything
// that is wrong with the flags.
func (c *config) service(ctx context.Context, log *slog.Logger, progress io.Writer) (service.Config, error) {
	environment, err := c.environment()
	errs := []error{c.validate(), err, c.limit()}
	// An invalid mirror is an error even if nothing has to be fetched: the next model may
	// have to be.
	var models []service.Model
	if err = c.store().Validate(); err != nil {
		err = fmt.Errorf("--model-mirror (or MIEN_MODEL_MIRROR): it %w", err)
	} else {
		models, err = c.models(ctx, log, progress)
	}
	errs = append(errs, err)
	s := c.build(models, environment, log)
	if err == nil { // or there are no models to validate
		errs = append(errs, flagErrors(s.Validate()))
	}
	return s, errors.Join(errs...)
}

// validate returns everything that is wrong with the flags which are this program's own.
// The service validates those that are its limits.
func (c *config) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(c.Listen) > 0, "--listen: at least one address is needed, such as :8080")
	for _, addr := range c.Listen {
		err := checkAddress(addr)
		check(err == nil, "--listen: %w", err)
	}
	if addr := c.adminAddress(); addr != "" {
		err := checkAddress(addr)
		check(err == nil, "--admin-listen: %w; %s means none", err, adminOff)
	}
	proxies, err := parseProxies(c.TrustedProxy)
	c.proxies = proxies
	errs = append(errs, err)
	check((c.TLSCert == "") == (c.TLSKey == ""), "--tls-cert and --tls-key: each needs the other")
	for _, origin := range c.CORSOrigin {
		check(isOrigin(origin), "--cors-origin: %q is not an origin: that is a scheme and a host, and a port where it is not the scheme's own, such as https://app.example.com", origin)
	}
	for _, header := range c.CORSHeader {
		check(headerName.MatchString(header), "--cors-header: %q is not the name of a header, such as Authorization; name each by a flag of its own", header)
	}
	check(len(c.CORSHeader) == 0 || len(c.CORSOrigin) > 0, "--cors-header: it has no effect without --cors-origin, which allows pages to call at all")
	check(c.DrainDelay >= 0 && c.DrainDelay <= maxTime, "--drain-delay: %v is not between 0 and %v; 0s goes without", c.DrainDelay, maxTime)
	drain := or(c.DrainTimeout, minDrain)
	check(drain > 0 && drain <= maxTime, "--drain-timeout: %v is not above 0 and at most %v", drain, maxTime)
	check(c.ConnAge >= 0 && c.ConnAge <= maxTime, "--max-connection-age: %v is not between 0 and %v; 0 leaves connections open", c.ConnAge, maxTime)
	check(slices.Contains([]string{"auto", "text", "json"}, c.LogFormat), "--log-format: %q is none of text, json and auto", c.LogFormat)
	return errors.Join(errs...)
}

// build returns the configuration of a service with these models. What no flag sets
// follows from what others set; if that is wrong, only the others are reported.
func (c *config) build(models []service.Model, environment inferencev1.Environment, log *slog.Logger) service.Config {
	defaults := service.DefaultConfig()
	s := service.Config{
		Models:           models,
		MaxImageBytes:    int64(c.MaxImageBytes),
		MaxBatchBytes:    int64(c.limits.batch),
		MaxRequests:      c.limits.requests,
		MaxBodyBytes:     int64(c.limits.body),
		MaxPixels:        c.limits.pixels,
		MaxInflightBytes: int64(c.limits.inflight),
		Workers:          c.limits.workers,
		Queue:            or(c.Queue, max(0, 4*c.limits.workers)),
		Timeout:          c.Timeout,
		DefaultTimeout:   or(c.DefaultTimeout, defaults.DefaultTimeout),
		StreamIdle:       or(c.StreamIdle, max(defaults.StreamIdle, min(c.Timeout, maxTime))),
		Environment:      environment,
		Logger:           log,
	}
	if c.DefaultTimeout == nil && c.Timeout > 0 {
		s.DefaultTimeout = min(s.DefaultTimeout, c.Timeout)
	}
	return s
}

// flagOf is the flag that sets a field of service.Config.
var flagOf = map[string]string{
	"Models":           "--model",
	"MaxImageBytes":    "--max-image-bytes",
	"MaxBatchBytes":    "--max-batch-bytes",
	"MaxRequests":      "--max-requests",
	"MaxBodyBytes":     "--max-body-bytes",
	"MaxPixels":        "--max-pixels",
	"MaxInflightBytes": "--max-inflight-bytes",
	"Workers":          "--workers",
	"Queue":            "--queue",
	"Timeout":          "--timeout",
	"DefaultTimeout":   "--default-timeout",
	"StreamIdle":       "--stream-idle-timeout",
}

// flagErrors reports what is wrong with the configuration of the service by the names of
// the flags.
func flagErrors(wrong []*service.FieldError) error {
	var errs []error
	for _, w := range wrong {
		errs = append(errs, errors.New(w.Message(func(field string) string { return cmp.Or(flagOf[field], field) })))
	}
	return errors.Join(errs...)
}

// or returns what a flag says, or else when it was not given.
func or[T any](flag *T, otherwise T) T {
	if flag != nil {
		return *flag
	}
	return otherwise
}

// drainTimeout is how long running calls may take to end: each has its time, and
// a little to be answered, unless the flag says otherwise.
func (c *config) drainTimeout() time.Duration {
	return or(c.DrainTimeout, max(minDrain, c.Timeout+5*time.Second))
}

// maxTime is a year: anything longer is a mistake, and may overflow.
const maxTime = 365 * 24 * time.Hour

// minDrain is the shortest time that running calls may take to end by default.
const minDrain = 35 * time.Second

// checkAddress returns what is wrong with an address to listen on.
func checkAddress(addr string) error {
	if path, ok := strings.CutPrefix(addr, unixScheme); ok {
		if path == "" {
			return fmt.Errorf("%q has no path; write it as unix:/run/mien.sock", addr)
		}
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q is neither host:port, such as :8080 or 127.0.0.1:8080, nor unix:PATH", addr)
	}
	return nil
}

// headerName matches the names of headers that exist. HTTP allows more, * among them,
// which browsers do not take for Authorization.
var headerName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func isOrigin(s string) bool {
	if s == "*" {
		return true
	}
	u, err := neturl.Parse(strings.Replace(s, "//*.", "//", 1))
	if err != nil || u.Scheme == "" || u.Host == "" || s != strings.ToLower(s) || strings.Contains(u.Host, "*") {
		return false
	}
	// Browsers leave out the scheme's own port.
	ownPort := (u.Scheme == "http" && u.Port() == "80") || (u.Scheme == "https" && u.Port() == "443")
	return !ownPort && u.User == nil && u.Path == "" && u.RawQuery == "" && !u.ForceQuery && u.Fragment == ""
}

// The models that need nothing but this binary.
const (
	embedded  = "pigo"
	reference = "pigo-reference"
)

func modelNames() []string {
	names := []string{embedded, reference}
	for _, m := range modelstore.Known() {
		names = append(names, m.Name)
	}
	return names
}

// describeModels is what --help and --version say of the known names. available is what
// keeps this binary from running ONNX models, nil if nothing does.
func describeModels(available error) string {
	names := modelNames()
	if available == nil {
		return strings.Join(names, ", ")
	}
	inside := slices.Index(names, reference) + 1
	return fmt.Sprintf("%s; not in this binary, which was built without cgo: %s", strings.Join(names[:inside], ", "), strings.Join(names[inside:], ", "))
}

// store is where known models are fetched from.
func (c *config) store() *modelstore.Store { return &modelstore.Store{Mirror: c.ModelMirror} }

// unused logs what was set for models that are not there. That is not an error: one
// environment may serve several servers.
func (c *config) unused(log *slog.Logger) {
	builtIn := func(arg string) bool { return arg == embedded || arg == reference }
	if c.ONNXRuntime != "" && !slices.ContainsFunc(c.Model, func(arg string) bool { return !builtIn(arg) }) {
		log.Warn("--onnxruntime (or MIEN_ONNXRUNTIME) has no effect: no model runs on ONNX Runtime", "onnxruntime", c.ONNXRuntime, "models", c.Model)
	}
	if c.ModelMirror != "" && !slices.ContainsFunc(c.Model, func(arg string) bool { return !builtIn(arg) && !strings.Contains(arg, "=") }) {
		log.Warn("--model-mirror (or MIEN_MODEL_MIRROR) has no effect: no model has to be fetched", "models", c.Model)
	}
}

// models opens what --model names, and fetches what has to be fetched.
func (c *config) models(ctx context.Context, log *slog.Logger, progress io.Writer) ([]service.Model, error) {
	var models []service.Model
	gate := cores.NewGate(c.limits.workers)
	for _, arg := range c.Model {
		name, path, named := strings.Cut(arg, "=")
		d, err := c.model(ctx, name, path, named, gate, log, progress)
		if err != nil {
			return nil, fmt.Errorf("--model: %w", err)
		}
		models = append(models, service.Model{Name: name, Detector: d})
	}
	c.unused(log)
	return models, nil
}

func (c *config) model(ctx context.Context, name, path string, named bool, gate *cores.Gate, log *slog.Logger, progress io.Writer) (face.Detector, error) {
	if named && (name == "" || path == "") {
		return nil, fmt.Errorf("%q: write it as NAME=PATH", name+"="+path)
	}
	if name == embedded && !named {
		return pigo.New(gate)
	}
	if name == reference && !named {
		return pigo.NewReference()
	}
	if !named && !slices.Contains(modelNames(), name) {
		return nil, fmt.Errorf("%q is not known; known are %s; NAME=PATH takes any ONNX file of a kind that this version knows", name, describeModels(onnx.Available()))
	}
	// Check this before anything is fetched.
	if err := onnx.Available(); err != nil {
		return nil, explainRuntime(err)
	}
	library, err := onnx.FindLibrary(c.ONNXRuntime)
	if err != nil {
		return nil, explainRuntime(err)
	}
	if !named {
		store := c.store()
		store.Logger, store.Progress = log, progress
		if path, err = store.Fetch(ctx, name); err != nil {
			return nil, explainFetch(err, store.Mirror != "")
		}
	}
	d, err := networks.Open(path, func(file string, oneCore bool) (engine.Engine, error) {
		return onnx.Open(file, onnx.Options{Library: library, Gate: gate, OneCore: oneCore})
	})
	if err != nil {
		return nil, explainRuntime(err)
	}
	return d, nil
}

// environment understands the names in any case, as the system that Mien
// replaces set them in RUN_ENV.
func (c *config) environment() (inferencev1.Environment, error) {
	if e, ok := inferencev1.Environment_value["ENVIRONMENT_"+strings.ToUpper(c.Environment)]; ok && e != 0 {
		return inferencev1.Environment(e), nil
	}
	return 0, fmt.Errorf("--environment (or MIEN_ENVIRONMENT, or RUN_ENV): %q is none of production, staging and development", c.Environment)
}

func (c *config) logger(w io.Writer, terminal bool) *slog.Logger {
	opts := &slog.HandlerOptions{Level: slog.Level(c.LogLevel)}
	if c.LogFormat == "text" || (c.LogFormat == "auto" && terminal) {
		return slog.New(traced{slog.NewTextHandler(w, opts)})
	}
	return slog.New(traced{slog.NewJSONHandler(w, opts)})
}

// logLevel is a slog.Level whose error lists the levels.
type logLevel slog.Level

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *logLevel) UnmarshalText(text []byte) error {
	if (*slog.Level)(l).UnmarshalText(text) != nil {
		return fmt.Errorf("%q is none of debug, info, warn and error", text)
	}
	return nil
}

// byteSize is a number of bytes, written as 16MiB, 16MB or 16777216.
type byteSize int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *byteSize) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	if err != nil || n > math.MaxInt64 {
		return fmt.Errorf("%q is not a size: write it as 16MiB, 16MB or 16777216", text)
	}
	*b = byteSize(n)
	return nil
}

func (b byteSize) String() string {
	return strings.NewReplacer(" ", "", ".0", "").Replace(humanize.IBytes(uint64(max(b, 0))))
}
