package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mienproject/mien/bench/calls"
	"github.com/mienproject/mien/face"
)

// A peer is a server that is already running, with its name in the tables.
type peer struct {
	name, protocol, url string
	// minConfidence is the server's default confidence. It may be outside of 0 to 1,
	// because the scores of other servers need not be probabilities.
	minConfidence float64
}

// UnmarshalText reads a peer as --peer gives it: NAME=PROTOCOL+URL#MINCONFIDENCE.
func (p *peer) UnmarshalText(text []byte) error {
	name, address, ok := strings.Cut(string(text), "=")
	if !ok || name == "" {
		return fmt.Errorf("%q lacks a name; write it as NAME=PROTOCOL+URL#MINCONFIDENCE, such as opencv=file+http://127.0.0.1:9001/predict#0.9", text)
	}
	protocol, rest, _ := strings.Cut(address, "+")
	if protocols := slices.Concat(calls.Protocols, calls.Others); !slices.Contains(protocols, protocol) {
		return fmt.Errorf("%s: the protocol %q is none of %s", name, protocol, strings.Join(protocols, ", "))
	}
	u, err := url.Parse(rest)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return fmt.Errorf("%s: %q is not a URL like http://127.0.0.1:9001/predict", name, rest)
	}
	*p = peer{name: name, protocol: protocol}
	if u.Fragment != "" {
		p.minConfidence, err = strconv.ParseFloat(u.Fragment, 64)
		if err != nil || math.IsNaN(p.minConfidence) || math.IsInf(p.minConfidence, 0) {
			return fmt.Errorf("%s: the default confidence %q is not a number", name, u.Fragment)
		}
	}
	u.Fragment = ""
	if u.Path == "/" {
		u.Path = "" // the paths of Mien are added
	}
	p.url = u.String()
	return nil
}

// throughPeers calls servers that are already running, by the names of their rows.
type throughPeers map[string]openPeer

type openPeer struct {
	peer
	door calls.Door
}

func openPeers(peers []peer) (throughPeers, error) {
	opened := throughPeers{}
	for _, p := range peers {
		// A server that knows options is asked for everything. The others return what
		// they were started to return.
		var opts calls.Options
		if slices.Contains(calls.Protocols, p.protocol) {
			opts.MinConfidence = new(float32)
		}
		door, err := calls.Open(p.protocol, p.url, opts)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		opened[p.name] = openPeer{p, door}
	}
	return opened, nil
}

func (throughPeers) title() string { return "through other servers" }

func (w throughPeers) minConfidence(name string) float64 { return w[name].minConfidence }

// ask returns all faces that the server of that name answers, whatever the question is.
// They may have no landmarks.
func (w throughPeers) ask(ctx context.Context, name string, p *photograph, _ question) (answer, error) {
	fail := func(err error) (answer, error) { return answer{}, fmt.Errorf("%s: %s: %w", name, p.path, err) }
	message, err := w[name].door.Message(p.data)
	if err != nil {
		return fail(err)
	}
	started := time.Now()
	answered, err := w[name].door.Call(ctx, message)
	took := time.Since(started)
	if err != nil {
		return fail(err)
	}
	faces, err := answered.Faces()
	if err != nil {
		return fail(err)
	}
	// Labels are matched in the order of the faces, which is any order in other servers.
	slices.SortStableFunc(faces, func(a, b face.Face) int { return cmp.Compare(b.Confidence, a.Confidence) })
	return answer{faces, took, took}, nil
}

func (w throughPeers) close() error {
	for _, p := range w {
		p.door.Close()
	}
	return nil
}
