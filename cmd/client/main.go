// Command client finds the faces in image files with a Mien server. Run it with
// --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/minio/minio-go/v7"
	"golang.org/x/term"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/internal/version"
)

const description = `Finds the faces in images with a Mien server.

    mien-client photo.jpg                                  prints a table on a terminal
    mien-client photos/ | jq .results                      prints JSON lines into a pipe
    mien-client --output faces.jsonl --resume photos/      resumes an earlier run

FILE is an image, a folder, a pattern such as 'photos/*.jpg', s3://BUCKET/FOLDER, or - for one image on standard input. A folder stands for all images below it whose names end in one of ${extensions}, except hidden ones.

Each image gives one line, in the order in which the images finish: {"file", "width", "height", "model", "results"} as in the JSON API, or {"file", "error": {"code", "reason", "message"}}. If an image fails, the error is also printed on standard error, and the run continues. Errors that a retry may fix (network, deadline, unreadable file) come at the end of the output; --resume retries these images.

Exit codes: 0 all images have results; 1 some images failed, or the output could not be written; 2 wrong usage, or settings that the server rejects; 3 the server or the object storage cannot be reached; 130 interrupted. After an interrupt (Ctrl-C) the images in flight finish; a second interrupt ends the program at once.`

// The exit codes.
const (
	exitOK = iota
	exitSomeFailed
	exitUsage
	exitUnreachable
)

// exitInterrupted is the exit code of a program that SIGINT ended, as shells have it.
const exitInterrupted = 130

// config holds the values of the flags.
type config struct {
	Files []string `arg:"" optional:"" name:"file" help:"Images, folders, patterns, s3://BUCKET/FOLDER, or - for standard input."`

	FilesFrom string `group:"Input" placeholder:"FILE" help:"Read the names of files and folders from FILE, one on each line; - for standard input."`
	Null      bool   `group:"Input" short:"0" help:"Names in --files-from end with a NUL byte instead of a newline, as find -print0 writes them."`

	Shard string `group:"Input" placeholder:"I/N" help:"Take only the I-th of N shares of the input, counted from 0. N alone takes the index of a pod of an Indexed Job, in $JOB_COMPLETION_INDEX. A file is always in the same share, whatever other files there are."`

	URL         []string      `group:"Server" name:"url" default:"http://localhost:8080" env:"${url_variable}" placeholder:"URL" help:"Address of the server: http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:///PATH (default ${default}). May be given several times, or as a list with commas, for servers with the same models: images are spread over them, and over all addresses of a name."`
	APIKeyFile  string        `group:"Server" name:"api-key-file" placeholder:"FILE" help:"File with the API key that the server requires. Without it, the key is in $MIEN_API_KEY, if there is one."`
	TLSCA       string        `group:"Server" name:"tls-ca" placeholder:"FILE" help:"Certificates in PEM of the authorities to trust, instead of those of this system."`
	TLSCert     string        `group:"Server" name:"tls-cert" placeholder:"FILE" help:"Client certificate in PEM, for servers that ask for one."`
	TLSKey      string        `group:"Server" name:"tls-key" placeholder:"FILE" help:"Private key of the client certificate in PEM."`
	GRPC        bool          `group:"Server" name:"grpc" help:"Use gRPC instead of Connect."`
	Timeout     time.Duration `group:"Server" default:"30s" placeholder:"DURATION" help:"Maximum time for one image (default ${default}). Waiting for an overloaded server does not count."`
	Attempt     time.Duration `group:"Server" name:"attempt-timeout" default:"0s" placeholder:"DURATION" help:"Maximum time for an attempt, after which another server is tried (default 0s: only --timeout counts)."`
	Wait        time.Duration `group:"Server" default:"10s" placeholder:"DURATION" help:"How long to wait for a server that cannot be reached (default ${default})."`
	Concurrency int           `group:"Server" default:"${concurrency}" placeholder:"N" help:"Maximum number of concurrent images, which are held in memory (default: 2 for each core, here ${concurrency})."`

	Model          string   `group:"Detection" placeholder:"NAME" help:"Model to use (default: the server's default)."`
	MinConfidence  *float32 `group:"Detection" placeholder:"0..1" help:"Minimum confidence of a face (default: the model's default)."`
	MaxResults     int32    `group:"Detection" placeholder:"N" help:"Return only the N most confident faces (default: all)."`
	MinFaceSize    int32    `group:"Detection" placeholder:"PIXELS" help:"Size of the smallest face to find (default: depends on the size of the image)."`
	SkipLandmarks  bool     `group:"Detection" help:"Return no landmarks (eyes, nose and mouth)."`
	AnyOrientation bool     `group:"Detection" help:"Also find faces that lie on their side or stand on their head. Takes at least four times as long."`

	Output   string                        `group:"Output" short:"o" placeholder:"FILE" help:"Write the lines to FILE instead of standard output. The file must be empty or missing, except with --resume. With s3://BUCKET/FOLDER, write them as objects FOLDER/I-of-N/000001.jsonl and so on, where I and N are those of --shard, or 0 and 1."`
	Resume   bool                          `group:"Output" help:"Continue an earlier run with the same --output, however it ended. Images that have results are skipped. Give the same names, from the same working directory."`
	Format   string                        `group:"Output" enum:"auto,jsonl,table" default:"auto" placeholder:"FORMAT" help:"jsonl, table, or auto (default): table on a terminal, jsonl otherwise."`
	Annotate string                        `group:"Output" placeholder:"DIR" help:"Write a copy of each image with its faces marked to DIR, under the same relative path: PNG for PNG, JPEG for all other formats."`
	shard    shard                         // of --shard
	objects  func() (*minio.Client, error) // opens object storage, once

	Version bool `help:"Print the version, and exit."`

	Progress string `group:"Output" enum:"auto,never" default:"auto" placeholder:"WHEN" help:"auto (default): show a progress bar if standard error is a terminal. never: show none."`
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program.
func run(args []string, stdin io.Reader, stdout, stderr *os.File) int {
	cfg, done, err := parse(args, stdout)
	if done {
		return exitOK
	}
	if err == nil {
		err = cfg.validate(stdout)
	}
	if err != nil {
		return usageError(stderr, err)
	}
	c, err := cfg.client()
	if err != nil {
		return usageError(stderr, err)
	}
	defer c.CloseIdleConnections()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second interrupt ends the process at once.
	context.AfterFunc(ctx, stop)
	names, passedOver, err := cfg.inputs(ctx, stdin)
	if err != nil {
		return usageError(stderr, err)
	}
	out, err := cfg.open(ctx, stdout)
	if err != nil {
		return usageError(stderr, err)
	}
	mark, err := newAnnotator(cfg.Annotate)
	if err != nil {
		return usageError(stderr, errors.Join(fmt.Errorf("--annotate: %w", err), out.close()))
	}

	j := &job{
		cfg: cfg, client: c, stdin: stdin, out: out, annotator: mark,
		screen: newScreen(stderr, stdout, cfg),
	}
	passedOver.report(j.screen)
	code := j.run(ctx, names)
	if err := errors.Join(out.close(), mark.close()); err != nil {
		fmt.Fprintf(stderr, "mien-client: %v\n", err)
		code = max(code, exitSomeFailed)
	}
	return code
}

const urlVariable = "MIEN_URL"

// parse reads flags and environment. done is true after --help and --version.
func parse(args []string, stdout io.Writer) (cfg *config, done bool, err error) {
	cfg = &config{objects: sync.OnceValues(openObjects)}
	parser, err := kong.New(cfg,
		kong.Name("mien-client"),
		kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
		kong.Writers(stdout, io.Discard),
		kong.Exit(func(int) { done = true }), // called by --help
		kong.Vars{
			"url_variable": urlVariable,
			"concurrency":  strconv.Itoa(2 * runtime.GOMAXPROCS(0)),
			"extensions":   strings.Join(extensions, " "),
		},
	)
	if err != nil {
		return nil, false, err
	}
	// An empty variable counts as unset.
	if os.Getenv(urlVariable) == "" {
		_ = os.Unsetenv(urlVariable) // fails for names that no variable has
	}
	_, err = parser.Parse(args)
	if err == nil && cfg.Version {
		fmt.Fprintf(stdout, "mien-client %s, %s, %s/%s\n", version.Number, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		done = true
	}
	return cfg, done, err
}

// validate returns an error that names every invalid flag, except for --url. It
// sets the default of --format.
func (c *config) validate(stdout *os.File) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	errs = append(errs, c.validateInput(check))
	check((c.TLSCert == "") == (c.TLSKey == ""), "--tls-cert and --tls-key: set both or neither")
	check(c.Timeout > 0, "--timeout: %v must be above 0", c.Timeout)
	check(c.Attempt >= 0, "--attempt-timeout: %v is below 0; 0 means no limit", c.Attempt)
	check(c.Wait > 0, "--wait: %v must be above 0", c.Wait)
	check(c.Concurrency >= 1 && c.Concurrency <= maxConcurrency, "--concurrency: %d is not between 1 and %d", c.Concurrency, maxConcurrency)
	check(c.MinConfidence == nil || (*c.MinConfidence >= 0 && *c.MinConfidence <= 1), "--min-confidence: it must be a number from 0 to 1")
	check(c.MaxResults >= 0, "--max-results: %d is below 0", c.MaxResults)
	check(c.MinFaceSize >= 0, "--min-face-size: %d is below 0", c.MinFaceSize)
	check(!c.Resume || c.Output != "", "--resume needs --output, the file to continue")
	if c.Format == "auto" {
		c.Format = "jsonl"
		if c.Output == "" && isTerminal(stdout) {
			c.Format = "table"
		}
	}
	check(!isObject(c.Output) || c.Format == "jsonl", "--output: object storage gets JSON lines: omit --format table")
	check(!c.Resume || c.Format == "jsonl", "--resume reads JSON lines: omit --format table")
	return errors.Join(errs...)
}

// validateInput checks the flags that name the input.
func (c *config) validateInput(check func(ok bool, format string, args ...any)) (err error) {
	check(len(c.Files) > 0 || c.FilesFrom != "", "name an image, a folder or a pattern, or - for standard input")
	check(!c.Null || c.FilesFrom != "", "-0 has no effect without --files-from")
	reads := c.FilesFrom == "-"
	for _, name := range c.Files {
		if name != "-" {
			continue
		}
		check(!reads, "standard input cannot be both an image and the list of --files-from")
		check(!c.Resume, "--resume cannot be used with an image on standard input, which has no name")
		reads = true
	}
	c.shard, err = parseShard(c.Shard)
	return err
}

// maxConcurrency bounds the memory for images, each of which has at most
// client.MaxFileBytes.
const maxConcurrency = 1024

func (c *config) options() *inferencev1.DetectOptions {
	return &inferencev1.DetectOptions{
		MinConfidence:  c.MinConfidence,
		MaxResults:     c.MaxResults,
		MinFaceSize:    c.MinFaceSize,
		SkipLandmarks:  c.SkipLandmarks,
		AnyOrientation: c.AnyOrientation,
		Model:          c.Model,
	}
}

// resumeHint says how to continue the run.
func (c *config) resumeHint() string {
	if c.Output == "" {
		return "with --output FILE, --resume can continue a run"
	}
	return "the same command with --resume continues " + c.Output
}

// usageError prints each error on its own line, and returns the exit code.
func usageError(stderr io.Writer, err error) int {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(stderr, "mien-client: %s\n", strings.TrimSpace(line))
	}
	if errors.Is(err, errStorage) {
		return exitUnreachable
	}
	fmt.Fprintln(stderr, "mien-client: see --help")
	return exitUsage
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
