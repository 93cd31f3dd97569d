package calls

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestArrivals(t *testing.T) {
	p := Plan{Messages: make([][]byte, 7), Rate: 500, Time: 20 * time.Second, Seed: 3}
	at, photo := p.arrivals()
	again, _ := p.arrivals()
	if !slices.Equal(at, again) {
		t.Error("the same seed makes different calls")
	}
	if !slices.IsSorted(at) || at[len(at)-1] >= p.Time || len(at) != len(photo) || slices.Max(photo) != 6 || slices.Min(photo) != 0 {
		t.Errorf("%d calls, %d photographs, the last at %v", len(at), len(photo), at[len(at)-1])
	}
	// 10,000 are expected, with a standard deviation of 100. At random, one in e
	// distances is longer than the mean.
	if n := float64(len(at)); math.Abs(n-10_000) > 500 {
		t.Errorf("%v calls", n)
	}
	long := 0
	for i := range at[1:] {
		if at[i+1]-at[i] > 2*time.Millisecond {
			long++
		}
	}
	if part := float64(long) / float64(len(at)); math.Abs(part-1/math.E) > .03 {
		t.Errorf("%.2f of the distances are longer than the mean", part)
	}
	p.Seed++
	if other, _ := p.arrivals(); slices.Equal(at, other) {
		t.Error("another seed makes the same calls")
	}
	p.Constant = true
	at, _ = p.arrivals()
	if math.Abs(float64(len(at))-10_000) > 1 || (at[9]-at[8]).Round(time.Microsecond) != 2*time.Millisecond {
		t.Errorf("%d calls, %v apart", len(at), at[9]-at[8])
	}
}

// stalling does not answer until the test lets it.
type stalling struct{ answer chan error }

func (stalling) Message(image []byte) ([]byte, error)           { return image, nil }
func (s stalling) Call(context.Context, []byte) (Answer, error) { return Answer{}, <-s.answer }
func (stalling) Close()                                         {}

// TestOpenLoop checks that calls do not wait for answers, up to the limit of open
// calls, and that each is counted once.
func TestOpenLoop(t *testing.T) { synctest.Test(t, testOpenLoop) }

func testOpenLoop(t *testing.T) {
	s := stalling{make(chan error)}
	p := Plan{Messages: make([][]byte, 1), Rate: 1000, Time: 100 * time.Millisecond, Constant: true, MaxOpen: 40}
	go func() {
		// No call is answered before the last one was due.
		time.Sleep(300 * time.Millisecond)
		for i := range 40 {
			switch {
			case i < 10:
				s.answer <- nil
			case i < 30:
				s.answer <- fmt.Errorf("call: %w", &RefusedError{"unavailable", "OVERLOADED"})
			default:
				s.answer <- errors.New("broken pipe")
			}
		}
	}()
	got, err := p.Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if got.Offered < 99 || len(got.Good) != 10 || len(got.Refused["OVERLOADED"]) != 20 || got.Failed["broken pipe"] != 10 || got.Unsent != got.Offered-40 {
		t.Errorf("%+v", got)
	}
	if slices.Min(got.Good) < 100*time.Millisecond {
		t.Errorf("answered after %v, when nothing was", slices.Min(got.Good))
	}
}

func TestQuantile(t *testing.T) {
	var d []time.Duration
	for i := range 100 {
		d = append(d, time.Duration(i+1))
	}
	for q, want := range map[float64]time.Duration{0: 1, .5: 50, .99: 99, 1: 100} {
		if got := quantile(d, q); got != want {
			t.Errorf("%v: %d, want %d", q, got, want)
		}
	}
	if got := quantile(d[:1], .99); got != 1 {
		t.Errorf("of one: %d", got)
	}
}

// TestLoop checks that every message is sent as often as any other, and that callers
// wait for their answers.
func TestLoop(t *testing.T) { synctest.Test(t, testLoop) }

func testLoop(t *testing.T) {
	c := &counting{open: map[string]int{}, sent: map[string]int{}}
	l := Loop{
		Messages: [][]byte{[]byte("a"), []byte("b"), []byte("c")}, Callers: 2, Time: time.Second,
		Check: func(message int, a Answer) error {
			if want := string("abc"[message]); string(a.body) != want {
				return fmt.Errorf("%s, want %s", a.body, want)
			}
			return nil
		},
	}
	got, err := l.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	// Two callers make 20 calls in a second, and then the seventh time is ended.
	if got.Offered != 21 || len(got.Good) != 21 || c.sent["a"] != 7 || c.sent["b"] != 7 || c.sent["c"] != 7 || c.most != 2 {
		t.Errorf("%d calls, %d good, %v, %d at once", got.Offered, len(got.Good), c.sent, c.most)
	}
	if rate := got.Rate(); math.Abs(rate-21/1.1) > .01 {
		t.Errorf("%v a second", rate)
	}
	// Of the answers, which come in pairs every 100 ms, eight are in these 400 ms.
	if rate := got.RateIn(350*time.Millisecond, 750*time.Millisecond); math.Abs(rate-20) > .01 {
		t.Errorf("%v a second in a part", rate)
	}
	l.Check = func(message int, _ Answer) error {
		if message == 0 {
			return errors.New("wrong")
		}
		return nil
	}
	if got, err = l.Run(t.Context(), c); err != nil || len(got.Good) != 14 || got.Failed["wrong"] != 7 || got.Failures() != 7 {
		t.Errorf("%+v, %v", got, err)
	}
}

// counting answers with what it got after 100 ms.
type counting struct {
	mu         sync.Mutex
	open, sent map[string]int
	now, most  int
}

func (*counting) Message(image []byte) ([]byte, error) { return image, nil }
func (*counting) Close()                               {}

func (c *counting) Call(_ context.Context, message []byte) (Answer, error) {
	c.mu.Lock()
	c.now++
	c.most = max(c.most, c.now)
	c.sent[string(message)]++
	c.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	c.mu.Lock()
	c.now--
	c.mu.Unlock()
	return Answer{body: message}, nil
}

// TestDoors sends an image through each door to a server that writes down what came, and
// reads the faces in the answer.
func TestDoors(t *testing.T) {
	const others = `{"faces": [{"box": [1.5, 2, 30, 40], "score": 0.75, "landmarks": [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]}, {"box": [0, 0, 1, 1], "score": 0.5, "landmarks": null}]}`
	const predict = `{"message": "", "results": [{"box": {"upLeft": {"x": 1}, "lowerRight": {"x": 30, "y": 40}}, "landmarks": {"leftEye": {"x": 1, "y": 2}}, "confidence": 0.75}]}`
	image := []byte{0xff, 0xd8, 0xff, 0xe0}
	for protocol, c := range map[string]struct {
		answer, contentType string
		faces               int
	}{
		"file":    {others, "image/jpeg", 2},
		"form":    {others, "multipart/form-data", 2},
		"flask":   {predict, "application/json", 1},
		"predict": {predict, "image/jpeg", 1},
	} {
		t.Run(protocol, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); got != c.contentType {
					t.Errorf("Content-Type %q, want %s", got, c.contentType)
				}
				body, _ := io.ReadAll(r.Body)
				switch protocol {
				case "form":
					r.Body = io.NopCloser(bytes.NewReader(body))
					f, _, err := r.FormFile("image")
					if err != nil {
						t.Error(err)
						return
					}
					body, _ = io.ReadAll(f)
				case "flask":
					var sent map[string]string
					err := json.Unmarshal(body, &sent)
					if err != nil || sent["img_id"] == "" {
						t.Errorf("%s: %v", body, err)
					}
					body, _ = base64.StdEncoding.DecodeString(sent["img_b64"])
				}
				if !bytes.Equal(body, image) {
					t.Errorf("got %q", body)
				}
				io.WriteString(w, c.answer)
			}))
			defer s.Close()
			d, err := Open(protocol, s.URL, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			message, err := d.Message(image)
			if err != nil {
				t.Fatal(err)
			}
			a, err := d.Call(t.Context(), message)
			if err != nil {
				t.Fatal(err)
			}
			faces, err := a.Faces()
			if err != nil || len(faces) != c.faces || faces[0].Confidence != .75 || faces[0].Box.MaxY != 40 || faces[0].Landmarks.LeftEye.Y != 2 {
				t.Errorf("%+v, %v", faces, err)
			}
		})
	}
	if _, err := Open("smtp", "http://localhost", Options{}); err == nil {
		t.Error("opened a door with an unknown protocol")
	}
}
