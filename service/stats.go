package service

// Stats describes what a service is doing, and its limits.
type Stats struct {
	// Busy is the number of busy workers, of Workers.
	Busy, Workers int
	// Queued is the number of unary requests that wait for a worker; at most QueueLimit
	// may. Waiting is the number of images of streams and batches that wait, which does
	// not count toward QueueLimit.
	Queued, QueueLimit, Waiting int
	// RequestsInFlight is the number of requests that are being read, processed or
	// answered, including streams and batches.
	RequestsInFlight, RequestsLimit int
	// BodyBytesInFlight is the bytes reserved for the bodies of the requests in flight.
	BodyBytesInFlight, BodyBytesLimit int64
	// DecodedBytesInFlight is the memory reserved for decoding and detecting, for all
	// images together.
	DecodedBytesInFlight, DecodedBytesLimit int64
	// Streams is the number of open calls of PredictStream and PredictBatch, and of other
	// requests with more bytes than one image may have.
	Streams int
	// Draining is true if the service refuses new work.
	Draining bool
}

// Stats returns the current state of the service.
func (s *Service) Stats() Stats {
	ledger, queue := s.ledger.Stats(), s.queue.Stats()
	return Stats{
		Busy:                 queue.Busy,
		Workers:              queue.Workers,
		Queued:               queue.Calls,
		QueueLimit:           queue.Limit,
		Waiting:              queue.Images,
		RequestsInFlight:     int(ledger.Requests),
		RequestsLimit:        s.config.MaxRequests,
		BodyBytesInFlight:    ledger.Bytes,
		BodyBytesLimit:       s.config.MaxBodyBytes,
		DecodedBytesInFlight: s.memory.InUse(),
		DecodedBytesLimit:    s.config.MaxInflightBytes,
		Streams:              int(ledger.Streams),
		Draining:             s.draining(),
	}
}
