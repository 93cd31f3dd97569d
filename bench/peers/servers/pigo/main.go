// Command pigo is a server as one would write it in an afternoon around the example in pigo's README
// (https://github.com/esimov/pigo#api): net/http, a goroutine for each request, and no limits. Its settings are those
// of the README. Its faces have a quality of 5 at least, as in pigo's own command and examples.
//
// CASCADE is the path of the file cascade/facefinder of pigo's module.
package main

import (
	"encoding/json"
	"image"
	"log"
	"net/http"
	"os"
	"runtime"
	"strconv"

	pigo "github.com/esimov/pigo/core"
)

type face struct {
	Box       [4]float64   `json:"box"`
	Score     float32      `json:"score"`
	Landmarks [][2]float64 `json:"landmarks"`
}

func main() {
	cores, err := strconv.Atoi(os.Getenv("CORES"))
	if err != nil {
		log.Fatalf("CORES is not a number: %v", err)
	}
	runtime.GOMAXPROCS(cores)
	minScore := float32(5)
	if text := os.Getenv("MIN_SCORE"); text != "" {
		score, err := strconv.ParseFloat(text, 32)
		if err != nil {
			log.Fatalf("MIN_SCORE is not a number: %v", err)
		}
		minScore = float32(score)
	}
	cascade, err := os.ReadFile(os.Getenv("CASCADE"))
	if err != nil {
		log.Fatalf("reading the cascade: %v", err)
	}
	classifier, err := pigo.NewPigo().Unpack(cascade)
	if err != nil {
		log.Fatalf("unpacking the cascade: %v", err)
	}

	http.HandleFunc("POST /predict", func(w http.ResponseWriter, r *http.Request) {
		// It has imported image/jpeg and image/png. Like GetImage in the README, it converts the image to NRGBA.
		src, err := pigo.DecodeImage(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		err = json.NewEncoder(w).Encode(map[string][]face{"faces": detect(classifier, src, minScore)})
		if err != nil {
			log.Printf("writing the answer: %v", err)
		}
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil)) //nolint:gosec // as one would write it in an afternoon
}

func detect(classifier *pigo.Pigo, src image.Image, minScore float32) []face {
	cols, rows := src.Bounds().Dx(), src.Bounds().Dy()
	found := classifier.RunCascade(pigo.CascadeParams{
		MinSize:     20,
		MaxSize:     1000,
		ShiftFactor: 0.1,
		ScaleFactor: 1.1,
		ImageParams: pigo.ImageParams{
			Pixels: pigo.RgbToGrayscale(src),
			Rows:   rows,
			Cols:   cols,
			Dim:    cols,
		},
	}, 0)
	faces := []face{}
	for _, d := range classifier.ClusterDetections(found, 0.2) {
		if d.Q < minScore {
			continue
		}
		x, y, half := float64(d.Col), float64(d.Row), float64(d.Scale)/2
		faces = append(faces, face{Box: [4]float64{x - half, y - half, x + half, y + half}, Score: d.Q})
	}
	return faces
}
