package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/jpeg"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/mienproject/mien/client"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

func Example() {
	c, err := client.New(serverURL) // for example http://localhost:8080
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	if err := c.WaitReady(ctx); err != nil {
		log.Fatal(err)
	}
	res, err := c.PredictFile(ctx, samplePath, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, face := range res.GetResults() {
		box := face.GetBox()
		fmt.Println("a face is", box.GetLowerRight().GetX()-box.GetUpLeft().GetX() > 100 && face.GetConfidence() > 0.9)
	}
	// Output: a face is true
}

func ExampleNew_grpc() {
	c, err := client.New(serverURL, client.WithGRPC(), client.WithTimeout(5*time.Second))
	if err != nil {
		log.Fatal(err)
	}

	models, err := c.ListModels(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(models[0].GetName())
	// Output: pigo
}

func ExampleError() {
	c, err := client.New(serverURL)
	if err != nil {
		log.Fatal(err)
	}

	_, err = c.PredictBytes(context.Background(), []byte("not an image"), nil)
	if e, ok := errors.AsType[*client.Error](err); ok {
		switch e.Reason {
		case client.ReasonUnsupportedFormat, client.ReasonCorruptImage:
			fmt.Println("send another file:", e.Code, e.Reason)
		case client.ReasonOverloaded, client.ReasonDraining:
			fmt.Println("come back after", e.RetryAfter)
		}
	}
	// Output: send another file: invalid_argument UNSUPPORTED_FORMAT
}

func ExampleClient_PredictImage() {
	c, err := client.New(serverURL)
	if err != nil {
		log.Fatal(err)
	}

	data, err := os.ReadFile(samplePath)
	if err != nil {
		log.Fatal(err)
	}
	img, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		log.Fatal(err)
	}
	res, err := c.PredictImage(context.Background(), img, &inferencev1.DetectOptions{MaxResults: 1})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(res.GetResults()), "face in", res.GetWidth(), "x", res.GetHeight())
	// Output: 1 face in 320 x 400
}

func ExampleClient_PredictStream() {
	c, err := client.New(serverURL)
	if err != nil {
		log.Fatal(err)
	}

	images := func(yield func(*inferencev1.Image) bool) {
		for _, path := range []string{samplePath, "example_test.go"} { // any number of files
			data, err := os.ReadFile(path)
			if err != nil {
				log.Fatal(err)
			}
			if !yield(&inferencev1.Image{ImageId: filepath.Base(path), RawData: data}) {
				return
			}
		}
	}
	for answer, err := range c.PredictStream(context.Background(), images) {
		switch {
		case answer == nil:
			log.Fatal(err) // the stream itself failed
		case err != nil:
			fmt.Println(answer.GetImageId(), "failed:", client.Reason(err))
		default:
			fmt.Println(answer.GetImageId(), "has", len(answer.GetResults()), "face")
		}
	}
	// Output:
	// sample.jpg has 1 face
	// example_test.go failed: UNSUPPORTED_FORMAT
}
