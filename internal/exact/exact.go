// Package exact has functions of floating-point numbers with the same bits on all
// processors. Those of package math are assembly on some processors, and elsewhere the
// compiler may fuse a product with a sum, which rounds once instead of twice. The explicit
// conversions here forbid that; see "Floating-point operators" in Go's specification.
package exact

import "math"

// ln 2 as a sum: the product of the first part and a whole number below 2^11 is exact.
const ln2High, ln2Low = 0x1.62e42fee00000p-1, 0x1.a39ef35793c76p-33

// taylor has the coefficients of the Taylor series of Exp, but for the first: 1/12! to 1.
var taylor = [...]float64{
	1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320, 1. / 5040, 1. / 720, 1. / 120, 1. / 24, 1. / 6, 1. / 2, 1, 1,
}

// Exp returns e to the power of x, with a relative error of less than 1e-15. For x below
// -700 or above 700, it returns the power of that limit. Exp of NaN is NaN.
func Exp(x float64) float64 {
	x = max(-700, min(x, 700))
	if x != x {
		return x
	}
	// x = k·ln 2 + r, with r between -ln(2)/2 and ln(2)/2.
	k := math.RoundToEven(float64(x * math.Log2E))
	r := x - float64(k*ln2High) - float64(k*ln2Low)
	// The Taylor series up to r¹³/13!.
	sum := 1. / 6227020800
	for _, c := range &taylor {
		sum = float64(sum*r) + c
	}
	return sum * math.Float64frombits(uint64(1023+int64(k))<<52)
}

// Log returns the natural logarithm of x, with a relative error of less than 1e-15, or an
// absolute one of 1e-16 where that is more. It is -Inf for 0, +Inf for +Inf, and NaN for
// negative numbers and NaN.
func Log(x float64) float64 {
	switch {
	case x != x || x < 0:
		return math.NaN()
	case x == 0:
		return math.Inf(-1)
	case math.IsInf(x, 1):
		return x
	}
	// x = m·2^k, with m between √½ and √2.
	m, k := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m, k = 2*m, k-1
	}
	// ln m = 2·artanh(s), with s = (m - 1)/(m + 1): its Taylor series up to s²¹/21.
	s := (m - 1) / (m + 1)
	z := float64(s * s)
	sum := 1. / 21
	for _, c := range [...]float64{1. / 19, 1. / 17, 1. / 15, 1. / 13, 1. / 11, 1. / 9, 1. / 7, 1. / 5, 1. / 3} {
		sum = float64(sum*z) + c
	}
	small := s + s + float64(2*float64(s*z)*sum)
	return float64(float64(k)*ln2High) + (small + float64(float64(k)*ln2Low))
}

// Hypot returns the length of the vector (x, y), whose coordinates must be below 1e150.
func Hypot(x, y float64) float64 { return math.Sqrt(float64(x*x) + float64(y*y)) }

// Logistic returns 1/(1 + e^-x), the inverse of ln(p/(1-p)).
func Logistic(x float64) float64 { return 1 / (1 + Exp(-x)) }

// Exp4 replaces each number with its Exp. It takes less time than four calls, because it
// interleaves their sums, each of whose steps waits for the one before.
func Exp4(x *[4]float64) {
	var k, r [4]float64
	for i, v := range x {
		v = max(-700, min(v, 700))
		k[i] = math.RoundToEven(float64(v * math.Log2E))
		r[i] = v - float64(k[i]*ln2High) - float64(k[i]*ln2Low)
	}
	const first = 1. / 6227020800
	a, b, c, d := first, first, first, first
	for _, t := range &taylor {
		a, b, c, d = float64(a*r[0])+t, float64(b*r[1])+t, float64(c*r[2])+t, float64(d*r[3])+t
	}
	for i, sum := range [4]float64{a, b, c, d} {
		if x[i] == x[i] {
			x[i] = sum * math.Float64frombits(uint64(1023+int64(k[i]))<<52)
		}
	}
}
