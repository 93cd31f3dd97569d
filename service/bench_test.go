package service_test

import (
	"bytes"
	"context"
	"fmt"
	"image/jpeg"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"testing"
	"time"

	"connectrpc.com/connect"
	library "github.com/esimov/pigo/core"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/face/pigo"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/photo"
	"github.com/mienproject/mien/service"
)

// newPigo returns a service with the embedded model.
func newPigo(b *testing.B) (*service.Service, *pigo.Detector) {
	b.Helper()
	d, err := pigo.New(cores.NewGate(runtime.GOMAXPROCS(0)))
	if err != nil {
		b.Fatal(err)
	}
	config := service.DefaultConfig()
	config.Models = []service.Model{{Name: "pigo", Detector: d}}
	s, err := service.New(config)
	if err != nil {
		b.Fatal(err)
	}
	return s, d
}

// people is the file of a photograph with four people.
func people(b *testing.B) []byte {
	b.Helper()
	data, err := os.ReadFile(facetest.Path(b, "peoples.jpg"))
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// BenchmarkRequest measures a whole request, from the bytes of a JPEG to the answer: by
// the service, and by a program that uses the pigo library and the standard decoder
// without changes and searches for faces of the same size. The third result is a lower
// bound for any decoder: all of the entropy-coded data, and an eighth of the pixels.
func BenchmarkRequest(b *testing.B) {
	s, _ := newPigo(b)
	byLibrary := newLibraryProgram(b)
	original := people(b)
	for _, picture := range []struct {
		name     string
		data     []byte
		smallest int // the smallest face that the service searches for
	}{
		{"peoples", original, 20},
		{"1MP", facetest.EnlargedJPEG(b, original, 1155, 866), 20},
		{"12MP", facetest.EnlargedJPEG(b, original, 4000, 3000), 68},
	} {
		b.Run("picture="+picture.name+"/by=library", func(b *testing.B) {
			for b.Loop() {
				if n := byLibrary.find(b, picture.data, picture.smallest); n < 4 {
					b.Fatalf("%d faces", n)
				}
			}
		})
		b.Run("picture="+picture.name+"/by=mien", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				res, err := s.Predict(b.Context(), &inferencev1.Image{RawData: picture.data})
				if n := len(res.GetResults()); err != nil || n < 4 {
					b.Fatalf("%d faces, %v", n, err)
				}
			}
		})
		b.Run("picture="+picture.name+"/by=entropy", func(b *testing.B) {
			p, err := photo.Open(picture.data, photo.Limits{})
			if err != nil {
				b.Fatal(err)
			}
			p = p.Reduced(photo.Options{Gray: true, Reduce: 8})
			for b.Loop() {
				if _, err := p.Decode(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// libraryProgram does what the example program of the library does.
type libraryProgram struct {
	faces            *library.Pigo
	eye, nose, mouth *library.PuplocCascade
}

func newLibraryProgram(b *testing.B) *libraryProgram {
	b.Helper()
	read := func(name string) []byte {
		data, err := os.ReadFile("../face/" + name)
		if err != nil {
			b.Fatal(err)
		}
		return data
	}
	var p libraryProgram
	var err error
	if p.faces, err = library.NewPigo().Unpack(read("pigo/cascade/facefinder")); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		into **library.PuplocCascade
		name string
	}{{&p.eye, "landmark/cascade/puploc"}, {&p.nose, "landmark/cascade/lp93"}, {&p.mouth, "landmark/cascade/lp84"}} {
		if *c.into, err = library.NewPuplocCascade().UnpackCascade(read(c.name)); err != nil {
			b.Fatal(err)
		}
	}
	return &p
}

// find returns the number of faces with a score of at least 5, and finds the landmarks
// of each.
func (p *libraryProgram) find(b *testing.B, data []byte, smallest int) (n int) {
	img, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		b.Fatal(err)
	}
	width, height := img.Bounds().Dx(), img.Bounds().Dy()
	params := library.ImageParams{Pixels: library.RgbToGrayscale(img), Rows: height, Cols: width, Dim: width}
	found := p.faces.RunCascade(library.CascadeParams{
		MinSize: smallest, MaxSize: min(width, height), ShiftFactor: 0.1, ScaleFactor: 1.1, ImageParams: params,
	}, 0)
	for _, f := range p.faces.ClusterDetections(found, 0.2) {
		if f.Q < 5 {
			continue
		}
		n++
		size := float64(f.Scale)
		pupil := func(side float64) *library.Puploc {
			return p.eye.RunDetector(library.Puploc{
				Row: f.Row - int(0.075*size), Col: f.Col + int(side*0.175*size), Scale: float32(0.25 * size), Perturbs: 63,
			}, params, 0, false)
		}
		left, right := pupil(-1), pupil(1)
		p.nose.GetLandmarkPoint(left, right, params, 63, false)
		p.mouth.GetLandmarkPoint(left, right, params, 63, false)
		p.mouth.GetLandmarkPoint(left, right, params, 63, true)
	}
	return n
}

// BenchmarkThroughput has as many clients as there are cores, which send the image of
// four people: over gRPC, with the clients' own work on the same cores, and by calls of
// the same pipeline in this process.
func BenchmarkThroughput(b *testing.B) {
	data := people(b)
	s, d := newPigo(b)
	b.Run("by=pipeline", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				p, err := photo.Open(data, photo.Limits{})
				if err != nil {
					b.Error(err)
					return
				}
				img, err := p.Reduced(photo.Options{Gray: true}).Decode(b.Context())
				if err != nil {
					b.Error(err)
					return
				}
				if faces, err := d.Detect(b.Context(), img, face.Options{MinConfidence: d.Info().MinConfidence}); err != nil || len(faces) != 4 {
					b.Error(len(faces), err)
					return
				}
			}
		})
	})
	b.Run("by=grpc", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		mux := http.NewServeMux()
		mux.Handle(s.Handler())
		server := &http.Server{Handler: mux, Protocols: protocols()}
		go func() { _ = server.Serve(l) }()
		defer server.Close()
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		defer transport.CloseIdleConnections()
		client := inferencev1connect.NewInferenceClient(&http.Client{Transport: transport}, "http://"+l.Addr().String(), connect.WithGRPC())
		predict := func() (stages time.Duration, err error) {
			res, err := client.Predict(context.Background(), &inferencev1.Image{RawData: data})
			if err == nil && len(res.GetResults()) != 4 {
				err = fmt.Errorf("%d faces", len(res.GetResults()))
			}
			t := res.GetTiming()
			return t.GetQueue().AsDuration() + t.GetDecode().AsDuration() + t.GetDetect().AsDuration(), err
		}
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := predict(); err != nil {
					b.Error(err)
					return
				}
			}
		})
		b.StopTimer()
		// The part of one client's time that is in no stage: the protocol on both
		// sides, and the network between them.
		const calls = 50
		var stages time.Duration
		began := time.Now()
		for range calls {
			took, err := predict()
			if err != nil {
				b.Fatal(err)
			}
			stages += took
		}
		b.ReportMetric(100*(1-float64(stages)/float64(time.Since(began))), "%outside")
	})
}

// BenchmarkWorkStops measures the time from a random moment at which a client
// disconnects to the end of its work.
func BenchmarkWorkStops(b *testing.B) {
	s, _ := newPigo(b)
	random := rand.New(rand.NewPCG(5, 6))
	noise := make([]byte, 3000*3000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	for name, req := range map[string]*inferencev1.Image{
		"at=decode": {RawData: facetest.EnlargedJPEG(b, people(b), 8000, 6000)},
		"at=detect": {
			RawData: noise, Width: 3000, Height: 3000, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8,
			Options: &inferencev1.DetectOptions{MinFaceSize: 20},
		},
	} {
		b.Run(name, func(b *testing.B) {
			var total, most time.Duration
			n := 0
			for b.Loop() {
				ctx, cancel := context.WithCancel(b.Context())
				ended := make(chan time.Time)
				go func() {
					_, _ = s.Predict(ctx, req) // it is canceled
					ended <- time.Now()
				}()
				for s.Stats().Busy == 0 {
					time.Sleep(100 * time.Microsecond)
				}
				time.Sleep(time.Duration(random.IntN(50)) * time.Millisecond)
				left := time.Now()
				cancel()
				took := (<-ended).Sub(left)
				total, most, n = total+took, max(most, took), n+1
			}
			b.ReportMetric(float64(total.Microseconds())/float64(n), "µs/stopped")
			b.ReportMetric(float64(most.Microseconds()), "µs/worst")
		})
	}
}
