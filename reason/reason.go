// Package reason has the reasons why a Mien server rejects or refuses a request. They
// are part of the contract: a reason never changes its meaning or spelling, and later
// servers may add some. docs/api.md explains when the server sends each of them, and
// what the client can do about it.
package reason

// A server sends these in google.rpc.ErrorInfo, in ItemError and, at /predict and /v2, in
// the header Mien-Reason. It sends InvalidTensor only by the Open Inference Protocol.
const (
	EmptyImage        = "EMPTY_IMAGE"
	UnsupportedFormat = "UNSUPPORTED_FORMAT"
	CorruptImage      = "CORRUPT_IMAGE"
	InvalidOptions    = "INVALID_OPTIONS"
	InvalidPixels     = "INVALID_PIXELS"
	InvalidBody       = "INVALID_BODY"
	TooManyPixels     = "TOO_MANY_PIXELS"
	TooManyBytes      = "TOO_MANY_BYTES"
	TooManyImages     = "TOO_MANY_IMAGES"
	InvalidTensor     = "INVALID_TENSOR"
	UnknownModel      = "UNKNOWN_MODEL"
	Unauthenticated   = "UNAUTHENTICATED"
	PermissionDenied  = "PERMISSION_DENIED"
	Quota             = "QUOTA"
	Overloaded        = "OVERLOADED"
	Draining          = "DRAINING"
	Deadline          = "DEADLINE"
	Canceled          = "CANCELED"
	Internal          = "INTERNAL"
)

// Only /predict and, except for InvalidForm, /v2 send these.
const (
	InvalidJSON         = "INVALID_JSON"
	InvalidForm         = "INVALID_FORM"
	UnsupportedEncoding = "UNSUPPORTED_ENCODING"
)
