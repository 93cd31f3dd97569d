package exact_test

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/mienproject/mien/internal/exact"
)

// near reports whether got is as near to want as the functions promise.
func near(got, want float64) bool {
	return got == want || math.Abs(got-want) <= max(1e-15*math.Abs(want), 1e-16) || (got != got && want != want)
}

// TestFunctions compares with package math, and checks limits.
func TestFunctions(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		x := 1400*random.Float64() - 700
		if got, want := exact.Exp(x), math.Exp(x); !near(got, want) {
			t.Fatalf("Exp(%v) is %v, want %v", x, got, want)
		}
		// Any positive number, but for subnormal ones, of which math.Log is wrong on amd64.
		y := max(math.Float64frombits(random.Uint64()>>1), 0x1p-1022)
		if got, want := exact.Log(y), math.Log(y); !near(got, want) {
			t.Fatalf("Log(%v) is %v, want %v", y, got, want)
		}
		z := 1 + (random.Float64()-.5)/16
		if got, want := exact.Log(z), math.Log(z); !near(got, want) {
			t.Fatalf("Log(%v) is %v, want %v", z, got, want)
		}
	}
	nan, infinite := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"Exp(0)", exact.Exp(0), 1},
		{"Exp(-Inf)", exact.Exp(-infinite), math.Exp(-700)},
		{"Exp(+Inf)", exact.Exp(infinite), math.Exp(700)},
		{"Exp(NaN)", exact.Exp(nan), nan},
		{"Log(0)", exact.Log(0), -infinite},
		{"Log(1)", exact.Log(1), 0},
		{"Log(+Inf)", exact.Log(infinite), infinite},
		{"Log(-1)", exact.Log(-1), nan},
		{"Log(NaN)", exact.Log(nan), nan},
		{"Logistic(0)", exact.Logistic(0), .5},
		{"Logistic(800)", exact.Logistic(800), 1},
	} {
		if !near(c.got, c.want) {
			t.Errorf("%s is %v, want %v", c.name, c.got, c.want)
		}
	}
}

// TestBits compares the bits of many values with those that this test had on the first
// processor.
func TestBits(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	hash := fnv.New64a()
	for range 100_000 {
		x := float64(40*random.Float64()) - 20
		for _, v := range []float64{exact.Exp(x), exact.Log(math.Abs(x)), exact.Logistic(x)} {
			_, _ = hash.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))
		}
	}
	if got, want := hash.Sum64(), uint64(0x52e94dd797a80fe3); got != want {
		t.Errorf("the bits have the hash %#x, want %#x", got, want)
	}
}

// TestExp4 checks that four powers at once have the bits of each alone.
func TestExp4(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 50_000 {
		var x, got [4]float64
		for i := range x {
			x[i] = 1600*random.Float64() - 800
			if random.IntN(50) == 0 {
				x[i] = []float64{0, math.Inf(1), math.Inf(-1), math.NaN()}[random.IntN(4)]
			}
		}
		got = x
		exact.Exp4(&got)
		for i, v := range got {
			if want := exact.Exp(x[i]); math.Float64bits(v) != math.Float64bits(want) && (v == v || want == want) {
				t.Fatalf("Exp4(%v) is %v, want %v", x[i], v, want)
			}
		}
	}
}
