// Package admission bounds what a server takes on. Its parts are independent:
//
//   - Ledger counts the requests in flight and the bytes of their bodies. Each request
//     gets a Lease, the only holder of what the request has taken. When others need
//     the room, the ledger revokes the leases of slow requests.
//   - Queue has the worker slots, and two lines of those that wait for one: single
//     calls, and images of streams.
//   - Memory bounds the memory of the work in the slots.
//
// Whatever waits is woken when what it waits for is there: nothing polls. The package
// knows neither HTTP nor RPC. All types are safe for concurrent use unless they say
// otherwise.
package admission

import (
	"errors"
	"fmt"
	"time"
)

// SlowBytes and SlowTime say what a slow request is: one of whose body fewer than
// SlowBytes bytes come in SlowTime. It has to go when others need its bytes. For a place among
// the requests, one has to go at once if fewer than PlaceBytes in each SlowTime have come from
// the beginning on: then those who want to hold a thousand places must send 128 MiB a second.
const (
	SlowBytes  = 16 << 10
	PlaceBytes = 128 << 10
	SlowTime   = time.Second
)

var (
	// ErrOverloaded is what every refusal wraps.
	ErrOverloaded = errors.New("overloaded")
	// ErrRevoked is returned to the holder of a lease that was revoked.
	ErrRevoked = fmt.Errorf("%w: the request came slower than %d KiB/s, and others needed its place; try again later",
		ErrOverloaded, PlaceBytes*time.Second/SlowTime>>10)
)
