package main

import (
	"cmp"
	"context"
	_ "embed" // the licenses
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
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

	"github.com/mienproject/mien/auth"
	"github.com/mienproject/mien/cores"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/internal/version"
	"github.com/mienproject/mien/onnx"
	"github.com/mienproject/mien/service"
)

// procs is the number of cores that this process may use: GOMAXPROCS before run raises
// it.
var procs = runtime.GOMAXPROCS(0)

const description = `Mien finds the faces in images.

It serves gRPC, gRPC-Web, Connect and HTTP/JSON on one port:

    curl -s localhost:8080/inference.v1.Inference/Predict \
      --json '{"rawData": "<base64 of a JPEG, PNG, GIF, WebP, BMP or TIFF>"}'

To try it in a browser, open http://localhost:8080/. For a description of the JSON interface, get /openapi.yaml.

Each flag can also be set by the environment variable named beside it. If both are set, the flag is used. In a variable, a repeatable flag is a list separated by commas. Write sizes as 16MiB, and durations as 1m30s. The defaults of limits depend on the memory and the CPU quota of this process's container, or on those of this machine. To export traces by OTLP, set OpenTelemetry's variables, such as OTEL_EXPORTER_OTLP_ENDPOINT.`

// config has the values of flags and environment variables.
type config struct {
	Listen        []string `group:"Network" default:":8080" placeholder:"ADDR" help:"Address to listen on: host:port (default :8080; port 0 picks a free one) or unix:PATH. Repeatable."`
	AdminListen   *string  `group:"Network" placeholder:"ADDR" help:"Address for operators, which serves /metrics and /debug/pprof/ (default ${admin_listen}; none with --reuse-port). Empty or off disables it. Everyone who can connect to it can profile the process."`
	AdminTLS      bool     `group:"Network" name:"admin-tls" help:"Serve operators over TLS, with the certificate of --tls-cert."`
	AdminAuthKeys string   `group:"Network" name:"admin-auth-keys" placeholder:"FILE" help:"File of API keys for operators, like that of --auth-keys. With it, all requests to --admin-listen need a key of this file."`
	ReusePort     bool     `group:"Network" help:"Let other processes listen on the same ports (SO_REUSEPORT). The system distributes connections among them."`
	TLSCert       string   `group:"Network" placeholder:"FILE" help:"Certificate chain in PEM. With it and --tls-key, the server accepts only TLS, of version 1.2 or later. Both files are loaded again when they change, and on SIGHUP."`
	TLSKey        string   `group:"Network" placeholder:"FILE" help:"Private key of the certificate in PEM."`
	TLSClientCA   string   `group:"Network" name:"tls-client-ca" placeholder:"FILE" help:"Certificates in PEM of the authorities that issue client certificates. With it, connections need a client certificate, or may have one; see --tls-client-auth. The file is loaded again when it changes, and on SIGHUP."`
	TLSClientAuth string   `group:"Network" name:"tls-client-auth" placeholder:"WHEN" help:"required (default): all connections need a client certificate, in addition to an API key if there are keys. optional: connections may have one, which replaces an API key."`
	AuthKeys      string   `group:"Network" placeholder:"FILE" help:"File of API keys, each line with a caller's name and a key's hash, as mien keys add NAME prints it. With it, all requests except for health probes, the page's files and /openapi.yaml need a key, as Authorization: Bearer KEY or X-Api-Key: KEY. The file is loaded again when it changes, and on SIGHUP."`
	AuthJWKS      string   `group:"Network" name:"auth-jwks" placeholder:"FILE" help:"JSON Web Key Set, a file or an https:// URL, with the public keys of an issuer of tokens (JWT). With it, callers may send a token as Authorization: Bearer TOKEN instead of an API key. A file is loaded again when it changes, a URL every five minutes, and both on SIGHUP."`
	AuthIssuer    string   `group:"Network" name:"auth-issuer" placeholder:"ISS" help:"Claim iss that tokens must have. Required with --auth-jwks."`
	AuthAudience  string   `group:"Network" name:"auth-audience" placeholder:"AUD" help:"Value that the claim aud of tokens must contain. Required with --auth-jwks."`
	CORSOrigin    []string `group:"Network" name:"cors-origin" placeholder:"ORIGIN" help:"Origin whose web pages may call this server, such as https://app.example.com, https://*.example.com for all its subdomains, or * for all origins. Repeatable. Pages of this server's own origin are always allowed."`
	AllowedHost   []string `group:"Network" name:"allowed-host" placeholder:"NAME" help:"Host name for which requests are accepted, such as faces.example.com, *.example.com or *. Repeatable. By default, listeners on a loopback address accept only names of this machine, such as localhost, and other listeners all names; with this flag, listeners accept these names and those of this machine."`
	CORSHeader    []string `group:"Network" name:"cors-header" placeholder:"NAME" help:"Header that these pages may send in addition to those of the protocols, such as Authorization. Repeatable."`
	TrustedProxy  []string `group:"Network" placeholder:"CIDR" help:"Network or address of a reverse proxy, or unix for proxies that connect through a Unix socket. For their requests, the log has the client's address from X-Forwarded-For. Repeatable."`

	NoPage bool `group:"Network" help:"Do not serve the page at /. Everything else, including /openapi.yaml, is still served."`

	Model       []string `group:"Models" default:"${default_models}" placeholder:"NAME" help:"Model to serve (default ${default_models}): a known name, which is one of ${models}; or NAME=PATH of an ONNX file. Repeatable. The first model answers requests that name none."`
	ONNXRuntime string   `group:"Models" name:"onnxruntime" placeholder:"FILE" help:"Shared library of ONNX Runtime, for SCRFD and other networks that Mien's own engine does not run. By default, the server searches for it beside its binary and in the system's library folders."`
	Provider    string   `group:"Models" name:"execution-provider" default:"cpu" placeholder:"NAME" help:"What ONNX Runtime computes with: cpu (default), or cuda for an NVIDIA GPU. With cuda, all models in files run on ONNX Runtime, and --onnxruntime must name a build of it for GPUs. Models that are built in always run on the CPU."`
	CUDADevice  int      `group:"Models" name:"cuda-device" default:"0" placeholder:"N" help:"Number of the GPU for --execution-provider cuda (default 0)."`
	ModelMirror string   `group:"Models" name:"model-mirror" placeholder:"URL" help:"URL of a mirror from which known models are downloaded, as URL/NAME/FILE, instead of from their publishers."`

	MaxImageBytes    byteSize       `group:"Limits" default:"${max_image_bytes}" placeholder:"SIZE" help:"Maximum size of an image as sent (default ${max_image_bytes}). Messages may be 5/12 larger, so that base64 with line breaks fits."`
	MaxBatchBytes    *byteSize      `group:"Limits" placeholder:"SIZE" help:"Maximum size of all images of a batch together (default ${max_batch_bytes}). A batch may have 100 images, each within --max-image-bytes."`
	MaxRequests      *int           `group:"Limits" placeholder:"N" help:"Maximum number of requests in flight, including open streams (default ${max_requests}). Requests over the limit are refused as OVERLOADED before their bodies are read, unless a slow request can be evicted."`
	MaxBodyBytes     *byteSize      `group:"Limits" placeholder:"SIZE" help:"Maximum size of the received bodies of all requests in flight together (default ${max_body_bytes}). Streams and batches may hold at most half of it. Requests over the limit are refused as OVERLOADED, unless a slow request can be evicted; streams wait."`
	MaxPixels        *int64         `group:"Limits" placeholder:"N" help:"Maximum number of pixels of an image, width times height (default ${max_pixels})."`
	MaxInflightBytes *byteSize      `group:"Limits" placeholder:"SIZE" help:"Maximum memory for all images that are being decoded and searched for faces (default ${max_inflight_bytes}). Other images wait. An image that needs more than this on its own is rejected as TOO_MANY_PIXELS, even if --max-pixels allows it."`
	Workers          *int           `group:"Limits" placeholder:"N" help:"Number of images that are processed at the same time (default: the number of cores, or of whole cores in the container's quota; here ${workers})."`
	Queue            *int           `group:"Limits" placeholder:"N" help:"Maximum number of images that wait for a worker (default: 4 for each worker). Images over the limit are refused as OVERLOADED."`
	Timeout          time.Duration  `group:"Limits" default:"${timeout}" placeholder:"DURATION" help:"Maximum time for a request after it has been read, or for each image of a stream or batch, whatever deadline the client sets (default ${timeout})."`
	DefaultTimeout   *time.Duration `group:"Limits" placeholder:"DURATION" help:"Deadline for requests that set none; at most --timeout (default ${default_timeout}, or --timeout if that is less)."`
	StreamIdle       *time.Duration `group:"Limits" name:"stream-idle-timeout" placeholder:"DURATION" help:"How long a client may send no image on a stream, or read no answer, before the stream is ended (default ${stream_idle}, or --timeout if that is more, because clients may wait for an answer before they send the next image)."`

	QuotaRequests    *float64 `group:"Quotas" name:"quota-requests" placeholder:"N" help:"Maximum number of requests per second of each caller, such as 10 or 0.5. Each image of a stream or batch counts as one too (default: no limit). A caller is an API key's or certificate's name or, without either, an address."`
	QuotaConcurrency *int     `group:"Quotas" name:"quota-concurrency" placeholder:"N" help:"Maximum number of requests of each caller at the same time, including open streams (default: no limit)."`
	QuotaPixels      *int64   `group:"Quotas" name:"quota-pixels" placeholder:"N" help:"Maximum number of pixels per second of each caller (default: no limit). A caller that was idle may send an image of --max-pixels at once."`

	DrainDelay   time.Duration  `group:"Operation" default:"2s" placeholder:"DURATION" help:"How long to continue accepting requests after SIGTERM (default 2s), while /readyz already fails, so that load balancers notice. An interrupt (Ctrl-C) or a second SIGTERM skips this."`
	DrainTimeout *time.Duration `group:"Operation" placeholder:"DURATION" help:"Maximum time after that for requests in flight to end (default ${drain_timeout}, or 5s more than --timeout if that is more). Another SIGTERM ends them at once."`
	ConnAge      time.Duration  `group:"Operation" name:"max-connection-age" default:"0s" placeholder:"DURATION" help:"Close a connection with the next request when it is older than this, plus or minus a tenth, so that the client reconnects (default 0s: never). If a load balancer distributes connections instead of requests, use 5m so that clients also use new replicas."`
	Environment  string         `group:"Operation" default:"production" env:"MIEN_ENVIRONMENT,RUN_ENV" placeholder:"NAME" help:"Value of meta_data.environment in answers: production, staging or development (default production)."`
	LogFormat    string         `group:"Operation" default:"auto" placeholder:"FORMAT" help:"Format of the log on standard error: text, json, or auto (default), which is text on a terminal and JSON otherwise."`
	LogLevel     logLevel       `group:"Operation" default:"info" placeholder:"LEVEL" help:"Minimum level of the log: debug, info (default), warn or error. Health probes are logged at debug."`

	Serve struct{}    `cmd:"" default:"1" help:"Run the server. This is what happens without a command."`
	Keys  keysCommand `cmd:"" help:"Make API keys."`

	Version  bool `env:"-" help:"Print the version and the known models, and exit."`
	Licenses bool `env:"-" help:"Print the licenses of everything in this binary, and exit."`

	command string  // what Kong calls the command, such as "keys add <name>"
	proxies proxies // parsed from TrustedProxy

	// extra are handlers of more paths. Tests set it, so that the test suites of others
	// examine this program's own HTTP server and middleware.
	extra map[string]http.Handler

	resources    resources
	resourcesErr error  // why some resources may be unknown
	limits       limits // set by flags, or derived from resources
}

// parse reads flags and environment variables, and the resources of this process from
// the file system at root. done is true if --help or --version was printed to stdout.
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
		kong.Exit(func(int) { done = true }), // called after --help
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
			"models":             describeModels(),
			"default_models":     strings.Join(defaultModels(), ","),
		},
	)
	if err != nil {
		return nil, false, err
	}
	// An empty variable counts as not set, because compose files and charts set many.
	for _, f := range parser.Model.Flags {
		for _, env := range f.Envs {
			if v, ok := os.LookupEnv(env); ok && v == "" {
				_ = os.Unsetenv(env) // fails for names that no flag has
			}
		}
	}
	parsed, err := parser.Parse(args)
	if done {
		return nil, true, nil
	}
	if err == nil {
		cfg.command = parsed.Command()
	}
	if err := errors.Join(err, unknownVariables(parser.Model.Flags, os.Environ())); err != nil {
		return nil, false, err
	}
	if cfg.Version {
		_, err := fmt.Fprintf(stdout, "mien %s, models: %s; %s %s/%s\n",
			version.Number, describeModels(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return nil, true, err
	}
	if cfg.Licenses {
		_, err := io.WriteString(stdout, licenses+yunetLicense)
		return nil, true, err
	}
	return cfg, false, nil
}

// licenses is written by internal/licenses.
//
//go:embed licenses.txt
var licenses string

const envPrefix = "MIEN"

// injected matches the variables that Kubernetes sets in every container for a service
// named "mien" or "mien-something".
var injected = regexp.MustCompile(`^MIEN_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// unknownVariables rejects unknown MIEN_ variables, so that a misspelled limit is not
// ignored.
func unknownVariables(flags []*kong.Flag, environ []string) error {
	known := map[string]bool{"MIEN_URL": true, "MIEN_API_KEY": true} // used by cmd/client
	for _, f := range flags {
		for _, env := range f.Envs {
			known[env] = true
		}
	}
	var errs []error
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, envPrefix+"_") && !known[name] && !injected.MatchString(name) {
			errs = append(errs, fmt.Errorf("the environment variable %s is unknown to this version: correct or remove it", name))
		}
	}
	return errors.Join(errs...)
}

// service returns the configuration of the service, including its opened models. The
// error lists all problems.
func (c *config) service(ctx context.Context, log *slog.Logger, progress io.Writer) (service.Config, error) {
	environment, err := c.environment()
	errs := []error{c.validate(), err, c.limit()}
	// An invalid mirror is an error even if nothing must be downloaded now, because the
	// next model may need it.
	var models []service.Model
	gate := cores.NewGate(c.limits.workers)
	if err = c.store().Validate(); err != nil {
		err = fmt.Errorf("--model-mirror (or MIEN_MODEL_MIRROR): it %w", err)
	} else {
		models, err = c.models(ctx, gate, log, progress)
	}
	errs = append(errs, err)
	s := c.build(models, environment, log)
	s.Gate = gate
	if err == nil { // otherwise models are missing for another reason
		errs = append(errs, flagErrors(s.Validate()))
	}
	return s, errors.Join(errs...)
}

// problems is a list of errors.
type problems []error

// checkf adds an error if a condition does not hold.
func (p *problems) checkf(ok bool, format string, args ...any) {
	if !ok {
		*p = append(*p, fmt.Errorf(format, args...))
	}
}

// validate returns all problems of the flags, except for the limits of the service,
// which service.Config validates.
func (c *config) validate() error {
	var errs problems
	check := errs.checkf
	check(len(c.Listen) > 0, "--listen: at least one address is required, such as :8080")
	for _, addr := range c.Listen {
		err := checkAddress(addr)
		check(err == nil, "--listen: %w", err)
	}
	if addr := c.adminAddress(); addr != "" {
		err := checkAddress(addr)
		check(err == nil, "--admin-listen: %w; %s disables it", err, adminOff)
	}
	proxies, err := parseProxies(c.TrustedProxy)
	c.proxies = proxies
	errs = append(errs, err)
	errs = append(errs, c.validateAccess(), c.validateQuota())
	check(c.DrainDelay >= 0 && c.DrainDelay <= maxTime, "--drain-delay: %v is not between 0 and %v; 0s means no delay", c.DrainDelay, maxTime)
	drain := or(c.DrainTimeout, minDrain)
	check(drain > 0 && drain <= maxTime, "--drain-timeout: %v must be above 0 and at most %v", drain, maxTime)
	check(c.ConnAge >= 0 && c.ConnAge <= maxTime, "--max-connection-age: %v is not between 0 and %v; 0 leaves connections open", c.ConnAge, maxTime)
	check(slices.Contains([]string{string(onnx.CPU), string(onnx.CUDA)}, c.Provider), "--execution-provider: %q is unknown; allowed are cpu and cuda", c.Provider)
	check(c.CUDADevice >= 0, "--cuda-device: %d is negative; GPUs are numbered from 0 on", c.CUDADevice)
	check(c.CUDADevice == 0 || c.Provider == string(onnx.CUDA), "--cuda-device: it has no effect without --execution-provider cuda")
	check(slices.Contains([]string{"auto", "text", "json"}, c.LogFormat), "--log-format: %q is unknown; allowed are text, json and auto", c.LogFormat)
	return errors.Join(errs...)
}

// validateAccess returns all problems of the flags about who may call.
func (c *config) validateAccess() error {
	var errs problems
	check := errs.checkf
	check((c.TLSCert == "") == (c.TLSKey == ""), "--tls-cert and --tls-key: set both or neither")
	check(c.AuthJWKS == "" || (c.AuthIssuer != "" && c.AuthAudience != ""), "--auth-jwks: set --auth-issuer and --auth-audience too, so that tokens of others or for other servers are not valid here")
	check(c.AuthJWKS != "" || (c.AuthIssuer == "" && c.AuthAudience == ""), "--auth-issuer and --auth-audience: they have no effect without --auth-jwks")
	check(!isURL(c.AuthJWKS) || isSafeURL(c.AuthJWKS), "--auth-jwks: %q is not an https:// URL; http:// is allowed only to this machine", c.AuthJWKS)
	check(c.TLSClientCA == "" || c.TLSCert != "", "--tls-client-ca: it has no effect without --tls-cert and --tls-key")
	check(slices.Contains([]string{"", clientAuthRequired, clientAuthOptional}, c.TLSClientAuth), "--tls-client-auth: %q is unknown; allowed are %s and %s", c.TLSClientAuth, clientAuthRequired, clientAuthOptional)
	check(c.TLSClientAuth == "" || c.TLSClientCA != "", "--tls-client-auth: it has no effect without --tls-client-ca, which names the authorities that issue client certificates")
	check(!c.AdminTLS || c.TLSCert != "", "--admin-tls: it needs a certificate; set --tls-cert and --tls-key")
	for _, origin := range c.CORSOrigin {
		check(isOrigin(origin), "--cors-origin: %q is not an origin, which is a scheme, a host and, unless it is the scheme's default, a port, such as https://app.example.com", origin)
	}
	for _, host := range c.AllowedHost {
		check(isHost(host), "--allowed-host: %q is not a host name; write it in lower case, without a scheme and a port, such as faces.example.com, *.example.com or *", host)
	}
	for _, header := range c.CORSHeader {
		check(headerName.MatchString(header), "--cors-header: %q is not the name of a header, such as Authorization; set the flag once for each header", header)
	}
	check(len(c.CORSHeader) == 0 || len(c.CORSOrigin) > 0, "--cors-header: it has no effect without --cors-origin, which allows pages to call this server")
	return errors.Join(errs...)
}

// validateQuota returns all problems of the flags about quotas.
func (c *config) validateQuota() error {
	var errs problems
	check := errs.checkf
	q := c.quota()
	check(c.QuotaRequests == nil || (q.Requests > 0 && q.Requests <= maxQuota), "--quota-requests: %v is not above 0 and at most %v; omit it for no limit", q.Requests, float64(maxQuota))
	check(c.QuotaConcurrency == nil || q.Concurrency > 0, "--quota-concurrency: %d is not above 0; omit it for no limit", q.Concurrency)
	check(c.QuotaPixels == nil || (q.Pixels > 0 && q.Pixels <= maxQuota*maxQuota), "--quota-pixels: %d is not above 0 and at most %d; omit it for no limit", q.Pixels, int64(maxQuota)*maxQuota)
	return errors.Join(errs...)
}

// maxQuota is the maximum number of requests per second in a quota. Its square is that of
// pixels.
const maxQuota = 1e6

// quota returns what each caller may use.
func (c *config) quota() auth.Quota {
	return auth.Quota{
		Requests:    or(c.QuotaRequests, 0),
		Concurrency: or(c.QuotaConcurrency, 0),
		Pixels:      or(c.QuotaPixels, 0),
		LargestItem: c.limits.pixels,
	}
}

// build returns the configuration of a service with these models. Limits without a flag
// are derived from others. If that makes them invalid, only the others are reported.
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

// flagOf maps the fields of service.Config to the flags that set them.
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

// flagErrors converts the problems of a service.Config to errors that name flags.
func flagErrors(wrong []*service.FieldError) error {
	var errs []error
	for _, w := range wrong {
		errs = append(errs, errors.New(w.Message(func(field string) string { return cmp.Or(flagOf[field], field) })))
	}
	return errors.Join(errs...)
}

// or returns the value of a flag, or otherwise if the flag was not set.
func or[T any](flag *T, otherwise T) T {
	if flag != nil {
		return *flag
	}
	return otherwise
}

// drainTimeout returns the maximum time for requests in flight to end. Its default is
// the time for a request and a little more.
func (c *config) drainTimeout() time.Duration {
	return or(c.DrainTimeout, max(minDrain, c.Timeout+5*time.Second))
}

// maxTime is a year. Longer times are mistakes, and could overflow.
const maxTime = 365 * 24 * time.Hour

// minDrain is the smallest default of drainTimeout.
const minDrain = 35 * time.Second

// checkAddress returns an error if addr is not an address to listen on.
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

// isSafeURL reports whether nobody on the way can change what s returns.
func isSafeURL(s string) bool {
	u, err := neturl.Parse(s)
	if err != nil || u.Host == "" {
		return false
	}
	return u.Scheme == "https" || (u.Scheme == "http" && isLoopbackName(hostName(u.Host)))
}

// headerName matches the names of all headers in use. HTTP allows more characters,
// among them *, which does not include Authorization in browsers.
var headerName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func isOrigin(s string) bool {
	if s == "*" {
		return true
	}
	u, err := neturl.Parse(strings.Replace(s, "//*.", "//", 1))
	if err != nil || u.Scheme == "" || u.Host == "" || s != strings.ToLower(s) || strings.Contains(u.Host, "*") {
		return false
	}
	// Browsers omit the default port of the scheme.
	ownPort := (u.Scheme == "http" && u.Port() == "80") || (u.Scheme == "https" && u.Port() == "443")
	return !ownPort && u.User == nil && u.Path == "" && u.RawQuery == "" && !u.ForceQuery && u.Fragment == ""
}

// environment returns the value of --environment. Case does not matter, because the
// system that Mien replaces set RUN_ENV in any case.
func (c *config) environment() (inferencev1.Environment, error) {
	if e, ok := inferencev1.Environment_value["ENVIRONMENT_"+strings.ToUpper(c.Environment)]; ok && e != 0 {
		return inferencev1.Environment(e), nil
	}
	return 0, fmt.Errorf("--environment (or MIEN_ENVIRONMENT, or RUN_ENV): %q is unknown; allowed are production, staging and development", c.Environment)
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
		return fmt.Errorf("%q is unknown; allowed are debug, info, warn and error", text)
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
