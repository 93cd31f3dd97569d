package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/mienproject/mien/client"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

const (
	// maxOverloadWait is how long to wait while the server is overloaded and
	// answers no request, before an image fails.
	maxOverloadWait = 2 * time.Minute
	// maxRounds is how often an image is sent to a server that is ready and yet
	// does not answer. The image may be the cause.
	maxRounds = 3
)

// Reasons of this program's own.
const (
	reasonUnreadable   = "UNREADABLE_FILE"
	reasonNotAnnotated = "NOT_ANNOTATED"
)

// errNotDone means that the run ends before the file has a result.
var errNotDone = errors.New("left to the next run")

// job finds the faces in many files.
type job struct {
	cfg       *config
	client    *client.Client
	stdin     io.Reader
	annotator *annotator
	screen    *screen

	stop func() // starts no more files

	mu       sync.Mutex // guards all that follows
	out      *output
	deferred []deferredLine // lines that come at the end
	done     int            // files
	failed   int
	faces    int
	answered time.Time // when the last answer came
	fatal    error     // why stop was called; nil for an interrupt
	code     int       // the exit code that goes with it
}

type deferredLine struct {
	line
	took time.Duration
}

// run processes all files, and returns the exit code. When ctx ends, it starts no
// more files and returns when those in flight have finished.
func (j *job) run(ctx context.Context, names []string) int {
	started := time.Now()
	todo, refused := j.remaining(names)
	if skipped := len(names) - len(todo); skipped > 0 {
		j.screen.printf("%d of %d have results from earlier runs, %d of them errors", skipped, len(names), refused)
	}
	if len(todo) > 0 {
		if err := j.waitReady(ctx); err != nil {
			if ctx.Err() != nil {
				return exitInterrupted
			}
			j.screen.printf("%s: %v", j.cfg.servers(), err)
			return exitUnreachable
		}
		j.predictAll(ctx, todo)
	}

	if j.failed > 0 || (j.screen.terminal && len(names) > 1) {
		elapsed := time.Since(started)
		rate := ""
		if answered := j.done - j.failed; answered > 0 {
			rate = fmt.Sprintf(" (%.1f images/s)", float64(answered)/elapsed.Seconds())
		}
		j.screen.printf("%d of %d answered, %d faces, %d failed, in %v%s", j.done-j.failed, len(todo), j.faces, j.failed, elapsed.Round(10*time.Millisecond), rate)
	}
	switch {
	case j.fatal != nil:
		j.screen.printf("stopped: %s", inFlags(j.fatal.Error()))
		if left := len(todo) - j.done; left > 0 && j.code != exitUsage {
			j.screen.printf("%d left; %s", left, j.cfg.resumeHint())
		}
		return j.code
	case j.done < len(todo):
		j.screen.printf("interrupted; %d left; %s", len(todo)-j.done, j.cfg.resumeHint())
		return exitInterrupted
	case j.failed > 0 || refused > 0:
		return exitSomeFailed
	}
	return exitOK
}

// remaining returns the files without a result from earlier runs, and how many of
// the other files have an error as their result.
func (j *job) remaining(names []string) (todo []string, refused int) {
	for _, name := range names {
		failed, answered := j.out.earlier.files[label(name)]
		switch {
		case !answered:
			todo = append(todo, name)
		case failed:
			refused++
		}
	}
	return todo, refused
}

func (j *job) predictAll(ctx context.Context, todo []string) {
	ctx, j.stop = context.WithCancel(ctx)
	defer j.stop()
	if j.out.table {
		_ = j.screen.withoutBar(j.out.writeHeader) // writing the first line will fail too
	}
	j.screen.begin(len(todo))
	defer j.screen.end()
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(j.cfg.Concurrency, len(todo)) {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(todo) {
					return
				}
				j.predictAndRecord(ctx, todo[i])
			}
		})
	}
	workers.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.deferred {
		j.write(l.line, l.took)
	}
}

// predictAndRecord processes one file and records the result.
func (j *job) predictAndRecord(ctx context.Context, name string) {
	started := time.Now()
	res, err := j.predict(ctx, name)
	if errors.Is(err, errNotDone) {
		return
	}
	l, took := line{File: label(name)}, time.Since(started)
	if err == nil {
		l.Answer, err = answerOf(res)
	}
	if err != nil {
		l.Error = failureOf(err)
		if !j.screen.together || !j.out.table { // a table on the same terminal says it
			j.screen.printf("%s: %s", printable(l.File), printable(inFlags(err.Error())))
		}
	}

	j.mu.Lock()
	j.done++
	if l.Error == nil {
		j.faces += len(l.Results)
		j.answered = time.Now()
	} else {
		j.failed++
	}
	if l.Error != nil && !l.Error.isPermanent() {
		// At the end of the output, the next run can remove these lines, so that
		// each file has one line.
		j.deferred = append(j.deferred, deferredLine{l, took})
	} else {
		j.write(l, took)
	}
	j.mu.Unlock()
	j.screen.step()
}

// write writes a line. mu must be held.
func (j *job) write(l line, took time.Duration) {
	if err := j.screen.withoutBar(func() error { return j.out.write(l, took) }); err != nil {
		j.giveUp(exitSomeFailed, fmt.Errorf("cannot write the output: %w", err))
	}
}

// giveUp ends the run. mu must be held. The first call counts.
func (j *job) giveUp(code int, err error) {
	if j.fatal == nil {
		j.code, j.fatal = code, err
		j.stop()
	}
}

// predict returns the result for one file, and writes the annotated copy if the
// flags ask for it. If ctx ends meanwhile it still finishes, unless it is waiting
// for the server.
func (j *job) predict(ctx context.Context, name string) (*inferencev1.InferResults, error) {
	data, err := j.read(ctx, name)
	if err != nil {
		return nil, err
	}
	req := &inferencev1.Image{RawData: data, Options: j.cfg.options()}
	finish := context.WithoutCancel(ctx)
	started := time.Now()
	for round := 1; ; round++ {
		res, err := j.client.Predict(finish, req)
		if err == nil {
			if err := j.annotator.annotate(finish, name, data, res); err != nil {
				return nil, &client.Error{Code: connect.CodeUnknown, Reason: reasonNotAnnotated, Message: err.Error()}
			}
			return res, nil
		}
		if err := j.waitToRetry(ctx, err, round, started); err != nil {
			return nil, err
		}
	}
}

// waitToRetry returns nil when the request may be sent again after err, the error to
// record if a retry cannot help, and errNotDone if the run ends.
func (j *job) waitToRetry(ctx context.Context, err error, round int, started time.Time) error {
	e, ok := errors.AsType[*client.Error](err)
	switch {
	case !ok:
		return err
	case e.Reason == client.ReasonUnknownModel, e.Reason == client.ReasonInvalidOptions,
		e.Code == connect.CodeUnauthenticated, e.Code == connect.CodePermissionDenied, e.Code == connect.CodeUnimplemented:
		// All other images would be rejected too.
		return j.stopWith(exitUsage, err)
	case e.Code != connect.CodeUnavailable && e.Reason != client.ReasonQuota:
		return err
	case e.Reason == client.ReasonOverloaded, e.Reason == client.ReasonQuota:
		if j.isStuck(started) {
			return err
		}
	case round >= maxRounds:
		return err
	default:
		if err := j.waitReady(ctx); err != nil {
			if ctx.Err() != nil {
				return errNotDone
			}
			return j.stopWith(exitUnreachable, fmt.Errorf("%s: %w", j.cfg.servers(), err))
		}
	}
	return pause(ctx, max(e.RetryAfter, 100*time.Millisecond))
}

// stopWith ends the run with an exit code.
func (j *job) stopWith(code int, err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.giveUp(code, err)
	return errNotDone
}

// isStuck reports whether the server has answered no request for longer than
// maxOverloadWait.
func (j *job) isStuck(started time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return time.Since(started) > maxOverloadWait && time.Since(j.answered) > maxOverloadWait
}

// waitReady waits until the server is ready, at most as long as --wait says.
func (j *job) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, j.cfg.Wait)
	defer cancel()
	notice := time.AfterFunc(time.Second, func() {
		j.screen.printf("waiting for %s, up to %v (--wait)", j.cfg.servers(), j.cfg.Wait)
	})
	defer notice.Stop()
	return j.client.WaitReady(ctx)
}

// read returns a file's content. If ctx ends meanwhile it still finishes.
func (j *job) read(ctx context.Context, name string) ([]byte, error) {
	in, err := j.openInput(context.WithoutCancel(ctx), name)
	if err != nil {
		return nil, unreadableFile(err)
	}
	defer func() { _ = in.Close() }() // only read
	data, err := client.Read(in)
	if _, told := errors.AsType[*client.Error](err); err != nil && !told {
		return nil, unreadableFile(err)
	}
	return data, err
}

func (j *job) openInput(ctx context.Context, name string) (io.ReadCloser, error) {
	switch {
	case name == "-":
		return io.NopCloser(j.stdin), nil
	case isObject(name):
		storage, err := j.cfg.objects()
		if err != nil {
			return nil, err
		}
		return readObject(ctx, storage, name)
	}
	return os.Open(name)
}

func unreadableFile(err error) error {
	code := connect.CodeUnknown
	switch {
	case errors.Is(err, fs.ErrNotExist):
		code = connect.CodeNotFound
	case errors.Is(err, fs.ErrPermission):
		code = connect.CodePermissionDenied
	}
	// The message already has the name beside it.
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	return &client.Error{Code: code, Reason: reasonUnreadable, Message: err.Error()}
}

func failureOf(err error) *failure {
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		e = &client.Error{Code: connect.CodeUnknown, Message: err.Error()}
	}
	return &failure{Code: e.Code.String(), Reason: e.Reason, Message: e.Message}
}

// pause waits for d to 2d. It returns errNotDone if ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d + rand.N(d)) //nolint:gosec // spreads load, protects nothing
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return errNotDone
	case <-timer.C:
		return nil
	}
}
