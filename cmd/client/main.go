// Command client asks a Mien server for the faces in files. Run it with --help.
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
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/mienproject/mien/client"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

const description = `Asks a Mien server where the faces in pictures are.

    mien-client photo.jpg                                  a table, on a terminal
    mien-client photos/ | jq .results                      JSON lines, in a pipe
    mien-client --output faces.jsonl --resume photos/      goes on where it was stopped

FILE is a picture, a folder (all pictures below it whose names end in one of ${extensions}; hidden ones are left out), a pattern such as 'photos/*.jpg', or - for one picture on standard input.

Each picture gives one line, in the order in which they finish: {"file", "width", "height", "model", "results"} as in the JSON interface, or {"file", "error": {"code", "reason", "message"}}. A picture that cannot be answered is also told on standard error, and the rest goes on. Errors that are not the picture's own (network, deadline, unreadable file) come at the end; --resume asks for these again.

Exit codes: 0 all were answered; 1 some were not, or the output could not be written; 2 wrong usage, or settings that the server refuses; 3 the server cannot be reached; 130 interrupted. An interrupt (Ctrl-C) lets the pictures in flight finish; a second one ends at once.`

// The exit codes.
const (
	exitOK = iota
	exitSomeFailed
	exitUsage
	exitUnreachable
	exitInterrupted = 130
)

// config is what flags say.
type config struct {
	Files []string `arg:"" optional:"" name:"file" help:"Pictures, folders, patterns, or - for standard input."`

	FilesFrom string `group:"Input" placeholder:"FILE" help:"Read names of files and folders, one a line, from FILE; - for standard input."`
	Null      bool   `group:"Input" short:"0" help:"Names in --files-from end with a NUL, as find -print0 writes them, not with the line."`

	URL         string        `group:"Server" name:"url" default:"http://localhost:8080" env:"${url_variable}" placeholder:"URL" help:"The server: http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:///PATH (default ${default})."`
	GRPC        bool          `group:"Server" name:"grpc" help:"Speak gRPC rather than Connect."`
	Timeout     time.Duration `group:"Server" default:"30s" placeholder:"DURATION" help:"What one picture may take (default ${default}); an overloaded server is waited for beyond that."`
	Wait        time.Duration `group:"Server" default:"10s" placeholder:"DURATION" help:"How long to wait for a server that is not there, at the start or later (default ${default})."`
	Concurrency int           `group:"Server" default:"${concurrency}" placeholder:"N" help:"Pictures under way at once (default: 2 for each core, here ${concurrency}). Each is held in memory."`

	Model         string   `group:"Detection" placeholder:"NAME" help:"The model to ask (default: the server's)."`
	MinConfidence *float32 `group:"Detection" placeholder:"0..1" help:"Leave out less confident faces (default: the model's own)."`
	MaxResults    int32    `group:"Detection" placeholder:"N" help:"Only the N most confident faces (default: all)."`
	MinFaceSize   int32    `group:"Detection" placeholder:"PIXELS" help:"The smallest face to look for (default: by the size of the picture)."`
	SkipLandmarks bool     `group:"Detection" help:"Leave out eyes, nose and mouth."`

	Output   string `group:"Output" short:"o" placeholder:"FILE" help:"Write there rather than to standard output. It must not have content yet, unless --resume says so."`
	Resume   bool   `group:"Output" help:"Go on with --output as an earlier run left it, however it ended: leave out what it has answered. Give the same names from the same folder."`
	Format   string `group:"Output" enum:"auto,jsonl,table" default:"auto" placeholder:"FORMAT" help:"jsonl, table, or auto (default): table on a terminal, jsonl otherwise."`
	Annotate string `group:"Output" placeholder:"DIR" help:"Write each picture with its faces marked to DIR, under its own relative path; PNG for PNG, JPEG for all else."`
	Progress string `group:"Output" enum:"auto,never" default:"auto" placeholder:"WHEN" help:"auto (default): a bar with rate and remaining time when standard error is a terminal. Or never."`
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
		return usageError(stderr, fmt.Errorf("--url: %w", err))
	}
	defer c.CloseIdleConnections()
	names, err := cfg.inputs(stdin)
	if err != nil {
		return usageError(stderr, err)
	}
	out, err := cfg.open(stdout)
	if err != nil {
		return usageError(stderr, err)
	}
	mark, err := newAnnotator(cfg.Annotate)
	if err != nil {
		return usageError(stderr, errors.Join(fmt.Errorf("--annotate: %w", err), out.close()))
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second interrupt ends the process at once.
	context.AfterFunc(ctx, stop)

	j := &job{
		cfg: cfg, client: c, stdin: stdin, out: out, annotator: mark,
		screen: newScreen(stderr, stdout, cfg),
	}
	code := j.run(ctx, names)
	if err := errors.Join(out.close(), mark.close()); err != nil {
		fmt.Fprintf(stderr, "mien-client: %v\n", err)
		code = max(code, exitSomeFailed)
	}
	return code
}

const urlVariable = "MIEN_URL"

// parse reads flags and environment. done tells that --help was answered.
func parse(args []string, stdout io.Writer) (cfg *config, done bool, err error) {
	cfg = &config{}
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
	// An empty variable is one that is not set.
	if os.Getenv(urlVariable) == "" {
		_ = os.Unsetenv(urlVariable) // fails for names that no variable has
	}
	_, err = parser.Parse(args)
	return cfg, done, err
}

// validate tells all that is wrong with the flags, but for the URL.
func (c *config) validate(stdout *os.File) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(c.Files) > 0 || c.FilesFrom != "", "name a picture, a folder or a pattern, or - for standard input")
	check(!c.Null || c.FilesFrom != "", "-0 says how to read --files-from, which is missing")
	reads := c.FilesFrom == "-"
	for _, name := range c.Files {
		if name != "-" {
			continue
		}
		check(!reads, "standard input cannot be a picture and a list of names at once")
		check(!c.Resume, "--resume cannot tell one picture on standard input from another")
		reads = true
	}
	check(c.Timeout > 0, "--timeout: %v is not above 0", c.Timeout)
	check(c.Wait > 0, "--wait: %v is not above 0", c.Wait)
	check(c.Concurrency >= 1 && c.Concurrency <= maxConcurrency, "--concurrency: %d is not between 1 and %d", c.Concurrency, maxConcurrency)
	check(c.MinConfidence == nil || (*c.MinConfidence >= 0 && *c.MinConfidence <= 1), "--min-confidence: it is a number from 0 to 1")
	check(c.MaxResults >= 0, "--max-results: %d is below 0", c.MaxResults)
	check(c.MinFaceSize >= 0, "--min-face-size: %d is below 0", c.MinFaceSize)
	check(!c.Resume || c.Output != "", "--resume needs --output, the file to go on with")
	if c.Format == "auto" {
		c.Format = "jsonl"
		if c.Output == "" && isTerminal(stdout) {
			c.Format = "table"
		}
	}
	check(!c.Resume || c.Format == "jsonl", "--resume reads JSON lines: leave out --format table")
	return errors.Join(errs...)
}

// maxConcurrency times client.MaxFileBytes is the most memory that pictures take.
const maxConcurrency = 1024

func (c *config) client() (*client.Client, error) {
	opts := []client.Option{client.WithTimeout(c.Timeout)}
	if c.GRPC {
		opts = append(opts, client.WithGRPC())
	}
	return client.New(c.URL, opts...)
}

func (c *config) options() *inferencev1.DetectOptions {
	return &inferencev1.DetectOptions{
		MinConfidence: c.MinConfidence,
		MaxResults:    c.MaxResults,
		MinFaceSize:   c.MinFaceSize,
		SkipLandmarks: c.SkipLandmarks,
		Model:         c.Model,
	}
}

// resumeHint tells a person how to go on.
func (c *config) resumeHint() string {
	if c.Output == "" {
		return "with --output FILE, --resume could go on from here"
	}
	return "the same command with --resume goes on with " + c.Output
}

// usageError tells each thing that is wrong on a line of its own.
func usageError(stderr io.Writer, err error) int {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(stderr, "mien-client: %s\n", strings.TrimSpace(line))
	}
	fmt.Fprintln(stderr, "mien-client: see --help")
	return exitUsage
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
