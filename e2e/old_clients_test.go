package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// TestOldClients: the clients of the system that Mien replaces, gRPC on one port
// and JSON on another, against one process.
func TestOldClients(t *testing.T) {
	t.Parallel()
	modules := stubs(t)
	socket := filepath.Join(t.TempDir(), "mien.sock")
	s := start(t, "--listen", "127.0.0.1:0", "--listen", "unix:"+socket)
	urls := s.urls()
	if len(urls) != 3 || urls[2] != "unix:"+socket {
		t.Fatalf("listens on %q", urls)
	}
	for _, p := range present(t, []*testImage{sample, people}) {
		t.Run(p.name, func(t *testing.T) {
			lines := runPython(t, modules, "old_clients.py", s.addr, urls[1], temp(t, p.name, p.load(t)))
			if len(lines) != 3 {
				t.Fatalf("%d answers, want 3: %s", len(lines), lines)
			}
			// Python prints the names of the contract, without zeros.
			var grpc struct {
				ID       string `json:"image_id"`
				MetaData struct {
					Timestamp   float64
					Environment string
					UUID        string
					ISODate     string `json:"iso_date"`
				} `json:"_meta_data"`
				Results []struct {
					Box struct {
						UpLeft     point `json:"up_left"`
						LowerRight point `json:"lower_right"`
					}
					Landmarks struct {
						LeftEye    point `json:"left_eye"`
						RightEye   point `json:"right_eye"`
						Nose       point
						MouthLeft  point `json:"mouth_left"`
						MouthRight point `json:"mouth_right"`
					}
					Confidence float64
				}
			}
			if err := json.Unmarshal(lines[0], &grpc); err != nil {
				t.Fatal(err)
			}
			if grpc.ID != "old-grpc" {
				t.Errorf("image_id is %q", grpc.ID)
			}
			if m := grpc.MetaData; m.Timestamp == 0 || m.Environment != "PRODUCTION" || m.UUID == "" || m.ISODate == "" {
				t.Errorf("meta data is %+v", m)
			}
			var faces []face
			for _, r := range grpc.Results {
				f := face{Confidence: r.Confidence}
				f.Box.UpLeft, f.Box.LowerRight = r.Box.UpLeft, r.Box.LowerRight
				l := struct{ LeftEye, RightEye, Nose, MouthLeft, MouthRight point }(r.Landmarks)
				f.Landmarks = &l
				faces = append(faces, f)
			}
			p.checkFaces(t, faces)

			for _, line := range lines[1:] {
				var http struct {
					Message *string
					Results []face
				}
				if err := json.Unmarshal(line, &http); err != nil || http.Message == nil || *http.Message != "" {
					t.Fatalf("%v: %s", err, line)
				}
				p.checkFaces(t, http.Results)
			}
		})
	}
	t.Run("unix socket", func(t *testing.T) {
		r := run(t, sample.load(t), "curl", "--silent", "--fail", "--unix-socket", socket, "--data-binary", "@-", "http://mien/predict")
		if out := string(r.must(t)); !strings.Contains(out, `"message":"","results":[{"box"`) {
			t.Errorf("the answer is %s", excerpt([]byte(out)))
		}
	})
}

// TestPredictByCurl: the ways in which people send an image, and the ways in
// which they may be answered.
func TestPredictByCurl(t *testing.T) {
	t.Parallel()
	s := start(t)
	photo := temp(t, "sample.jpg", sample.load(t))
	for name, args := range map[string][]string{
		"data":    {"--data-binary", "@" + photo},
		"upload":  {"--upload-file", photo},
		"form":    {"--form", "image=@" + photo},
		"options": {"--form", "image=@" + photo, "--form", "min_face_size=20"},
	} {
		t.Run(name, func(t *testing.T) {
			r := curl(t, nil, append(args, s.url+"/predict?max_results=1")...).want(t, 200, "application/json")
			var answer struct {
				Message *string
				Results []face
			}
			if err := json.Unmarshal(r.body, &answer); err != nil || answer.Message == nil || *answer.Message != "" {
				t.Fatalf("%v: %s", err, r.body)
			}
			sample.checkFaces(t, answer.Results)
		})
	}
	t.Run("image", func(t *testing.T) {
		r := curl(t, nil, "--header", "Accept: image/jpeg", "--data-binary", "@"+photo, s.url+"/predict").want(t, 200, "image/jpeg")
		if len(r.body) < 10_000 {
			t.Errorf("an image of %d bytes", len(r.body))
		}
	})
	t.Run("no image", func(t *testing.T) {
		curl(t, []byte("hello"), "--data-binary", "@-", s.url+"/predict").want(t, 415, "application/json")
	})
}
