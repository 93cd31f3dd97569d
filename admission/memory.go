package admission

import (
	"context"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
)

// Memory bounds the memory of work whose garbage is so large that the garbage
// collector's own pace is too slow for it: the runtime leaves room for hundreds of
// small objects, not for a picture of half the memory that there is.
type Memory struct {
	pool pool

	// garbage is what has been given back and may not have been collected yet.
	garbage atomic.Int64
	// collecting is held while garbage is collected, so that others wait for that.
	collecting sync.Mutex
	collect    func()
	// heap returns how many bytes the heap has, with garbage that was not collected yet.
	heap func() int64
}

// NewMemory returns a Memory of limit bytes. It calls empty before it collects garbage, to drop
// what earlier work has left for later work.
func NewMemory(limit int64, empty func()) *Memory {
	return &Memory{pool: pool{limit: limit}, collect: func() {
		empty()
		runtime.GC()
		runtime.GC() // a sync.Pool keeps what it has for one more round
	}, heap: heapBytes}
}

func heapBytes() int64 {
	objects := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(objects)
	return int64(objects[0].Value.Uint64())
}

// Acquire takes n bytes, and waits for them until ctx ends, in the order of arrival.
// It collects garbage when that of earlier work, and the work under way, could exceed
// the limit together. The caller has to call release once when its work has ended. n
// must not exceed the limit.
func (m *Memory) Acquire(ctx context.Context, n int64) (release func(), err error) {
	if err := m.pool.acquire(ctx, n); err != nil {
		return nil, err
	}
	m.collecting.Lock()
	defer m.collecting.Unlock()
	if garbage := m.garbage.Load(); m.pool.inUse()+garbage > m.pool.limit {
		// The runtime may have collected most of it by itself.
		left := min(garbage, m.heap())
		if m.pool.inUse()+left > m.pool.limit {
			m.collect()
			left = 0
		}
		m.garbage.Add(left - garbage)
	}
	return func() {
		m.garbage.Add(n)
		m.pool.release(n)
	}, nil
}

// InUse returns how many bytes are taken.
func (m *Memory) InUse() int64 { return m.pool.inUse() }
