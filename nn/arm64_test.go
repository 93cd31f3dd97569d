package nn

import (
	"testing"

	"github.com/mienproject/mien/internal/arm64test"
)

// TestARM64: the tests of bits pass on arm64.
func TestARM64(t *testing.T) { arm64test.Digests(t) }
