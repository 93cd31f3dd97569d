package service

// Stats is what a service is doing at one moment, and what it may do at most.
type Stats struct {
	// Busy is how many of the Workers are taken.
	Busy, Workers int
	// Queued is how many calls wait for a worker, of at most QueueLimit; Waiting
	// is how many images of streams and batches do, which have no place in the
	// queue.
	Queued, QueueLimit, Waiting int
	// RequestsInFlight is how many requests are being read, worked on or
	// answered, streams and batches among them.
	RequestsInFlight, RequestsLimit int
	// BodyBytesInFlight is what the bodies of the requests in flight take, as
	// declared or as read.
	BodyBytesInFlight, BodyBytesLimit int64
	// DecodedBytesInFlight is what decoding and detecting takes, all images
	// together.
	DecodedBytesInFlight, DecodedBytesLimit int64
	// Streams is how many calls of PredictStream and PredictBatch are open.
	Streams int
	// Draining is true if new work is refused.
	Draining bool
}

// Stats returns what the service is doing now.
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
