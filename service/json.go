package service

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	inference "github.com/mienproject/mien/gen/inference"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// IgnoredFieldsHeader is a header of the answer to a JSON request. It lists the fields
// of the request that the server ignored: unknown fields, and fields whose value is an
// unknown enum name.
const IgnoredFieldsHeader = "Mien-Ignored-Fields"

// jsonShape describes the fields that a JSON object may have.
type jsonShape struct {
	// prefix is the path of the object, ending with a dot; it is empty for the
	// outermost object.
	prefix string
	fields map[string]jsonField
}

// jsonField describes a field, or each element of a repeated field.
type jsonField struct {
	base64 bool                        // the field has bytes
	enum   protoreflect.EnumDescriptor // nil unless the field is an enum
	object *jsonShape                  // nil unless the field is a message
}

// jsonShapes has the shapes of all request messages.
var jsonShapes = func() map[protoreflect.FullName]*jsonShape {
	shapes := map[protoreflect.FullName]*jsonShape{}
	for _, m := range []proto.Message{&inferencev1.Image{}, &inferencev1.PredictBatchRequest{}, &inferencev1.ListModelsRequest{}, &inference.ModelInferRequest{}} {
		descriptor := m.ProtoReflect().Descriptor()
		shapes[descriptor.FullName()] = shapeOf(descriptor, "")
	}
	return shapes
}()

// oldShape is the shape of the JSON that clients of the old system send to /predict.
var oldShape = &jsonShape{fields: map[string]jsonField{"img_id": {}, "img_b64": {base64: true}}}

// shapeOf returns the shape of a message, which must not contain itself.
func shapeOf(message protoreflect.MessageDescriptor, prefix string) *jsonShape {
	shape := &jsonShape{prefix: prefix, fields: map[string]jsonField{}}
	fields := message.Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		var field jsonField
		switch {
		case f.Kind() == protoreflect.BytesKind:
			field.base64 = true
		case f.Kind() == protoreflect.EnumKind:
			field.enum = f.Enum()
		// Messages of google.protobuf have a JSON mapping of their own, and the keys of maps are not field names.
		case f.Message() != nil && !f.IsMap() && f.Message().ParentFile().Package() != "google.protobuf":
			path := prefix + f.JSONName()
			if f.IsList() {
				path += "[]"
			}
			field.object = shapeOf(f.Message(), path+".")
		}
		shape.fields[f.JSONName()], shape.fields[f.TextName()] = field, field
	}
	return shape
}

// byteOrderMark is U+FEFF in UTF-8, which PowerShell and some editors write before
// JSON.
var byteOrderMark = []byte("\xef\xbb\xbf")

// prepareJSON returns data in a form that protojson and encoding/json can read, and the
// fields that they ignore, in the format of IgnoredFieldsHeader. It removes a
// byte-order mark, and changes the base64 of bytes fields in place: it removes white
// space (even unescaped line breaks, which shell scripts produce), escapes and padding,
// so that all decoders accept the result. It does not change text that is not JSON.
//
// It skips over values without parsing them: for 16 MiB in base64 it takes a fifteenth
// of the time that protojson takes.
func prepareJSON(data []byte, shape *jsonShape) (text []byte, ignored string) {
	r := jsonReader{data: bytes.TrimPrefix(data, byteOrderMark)}
	r.read(shape)
	return r.data, r.ignored.String()
}

// jsonReader scans JSON. Its methods return false for anything that is not JSON, and at
// the end of the data.
type jsonReader struct {
	data []byte
	at   int
	// plus is a byte that stands for an unescaped + in a query string, which means
	// either a space or a letter of base64. It is 0 if the JSON is not from a query.
	plus    byte
	ignored ignoredFields
}

// read reads the outermost object.
func (r *jsonReader) read(shape *jsonShape) {
	if shape != nil && r.next() == '{' {
		r.object(shape)
	}
}

// next skips white space, and returns the byte after it, or 0 at the end.
func (r *jsonReader) next() byte {
	for ; r.at < len(r.data); r.at++ {
		switch c := r.data[r.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			if r.plus != 0 && c == r.plus {
				continue
			}
			return c
		}
	}
	return 0
}

// object reads an object, starting at its brace.
func (r *jsonReader) object(shape *jsonShape) bool {
	r.at++
	for {
		switch r.next() {
		case '}':
			r.at++
			return true
		case ',':
			r.at++
			continue
		case '"':
		default:
			return false
		}
		start, end, ok := r.quoted()
		if !ok || r.next() != ':' {
			return false
		}
		r.at++
		name := unquote(r.data[start:end])
		field, known := shape.fields[name]
		if !known {
			r.ignored.add(shape.prefix, name)
		}
		if !r.value(field, shape.prefix, name) {
			return false
		}
	}
}

// value reads a value, or all values of a list.
func (r *jsonReader) value(field jsonField, prefix, name string) bool {
	if r.next() != '[' {
		return r.element(field, prefix, name)
	}
	r.at++
	for {
		switch r.next() {
		case ']':
			r.at++
			return true
		case ',':
			r.at++
		default:
			if !r.element(field, prefix, name) {
				return false
			}
		}
	}
}

// element reads a value that is not a list, or skips it.
func (r *jsonReader) element(field jsonField, prefix, name string) bool {
	switch c := r.next(); {
	case c == '{' && field.object != nil:
		return r.object(field.object)
	case c == '"' && field.base64:
		start, end, ok := r.quoted()
		if ok {
			r.base64(start, end)
		}
		return ok
	case c == '"' && field.enum != nil:
		start, end, ok := r.quoted()
		if ok && field.enum.Values().ByName(protoreflect.Name(unquote(r.data[start:end]))) == nil {
			r.ignored.add(prefix, name)
		}
		return ok
	default:
		return r.skip()
	}
}

// quoted reads a string, starting at its quote, and returns the bounds of what is
// between the quotes.
func (r *jsonReader) quoted() (start, end int, ok bool) {
	start = r.at + 1
	for i := start; ; i++ {
		n := bytes.IndexByte(r.data[i:], '"')
		if n < 0 {
			r.at = len(r.data)
			return 0, 0, false
		}
		i += n
		escapes := 0
		for i-escapes > start && r.data[i-escapes-1] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			r.at = i + 1
			return start, i, true
		}
	}
}

// skip skips a value of any kind.
func (r *jsonReader) skip() bool {
	for depth := 0; ; {
		switch r.next() {
		case 0:
			return false
		case '"':
			if _, _, ok := r.quoted(); !ok {
				return false
			}
		case '{', '[':
			depth++
			r.at++
		case '}', ']':
			depth--
			r.at++
		case ',', ':':
			if depth == 0 {
				return false
			}
			r.at++
			continue
		default:
			n := bytes.IndexAny(r.data[r.at:], " \t\r\n\",:{}[]")
			if n < 0 {
				n = len(r.data) - r.at
			}
			r.at += n
		}
		if depth <= 0 {
			return depth == 0
		}
	}
}

// base64 rewrites a base64 string in place: it removes white space, escapes and
// padding, and fills the freed bytes after the closing quote with spaces.
func (r *jsonReader) base64(start, end int) {
	s := r.data[start:end]
	n := len(s)
	if !r.isBare(s) {
		n = r.compact(s)
	}
	for n > 0 && s[n-1] == '=' {
		n--
	}
	if n == len(s) {
		return
	}
	r.data[start+n] = '"'
	for i := start + n + 1; i <= end; i++ {
		r.data[i] = ' '
	}
}

// isBare reports whether s has neither white space nor escapes.
func (r *jsonReader) isBare(s []byte) bool {
	const chunk = 16 << 10 // stays in the L1 cache for all searches
	for len(s) > 0 {
		part := s[:min(chunk, len(s))]
		s = s[len(part):]
		for _, c := range [...]byte{'\\', '\n', '\r', ' ', '\t'} {
			if bytes.IndexByte(part, c) >= 0 {
				return false
			}
		}
		if r.plus != 0 && bytes.IndexByte(part, r.plus) >= 0 {
			return false
		}
	}
	return true
}

// compact removes white space and escapes from s, and returns its new length.
func (r *jsonReader) compact(s []byte) int {
	bare := plusIsLetter(s)
	special := [256]bool{'\\': true, '\n': true, '\r': true, ' ': true, '\t': true}
	special[r.plus] = r.plus != 0
	n := 0
	for i := 0; i < len(s); {
		run := i
		for i < len(s) && !special[s[i]] {
			i++
		}
		n += copy(s[n:], s[run:i])
		if i == len(s) {
			break
		}
		c, size := s[i], 1
		if c == '\\' {
			c, size = unescape(s[i:])
		}
		switch {
		case size == 0: // left for the JSON decoder to reject
			size = min(2, len(s)-i)
			n += copy(s[n:], s[i:i+size])
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		case size == 1: // r.plus
			if bare {
				s[n] = '+'
				n++
			}
		default:
			s[n] = c
			n++
		}
		i += size
	}
	return n
}

// plusIsLetter reports whether an unescaped + in the query is a letter of the base64 s.
// It is white space if the client escapes that letter, or uses the URL-safe alphabet.
func plusIsLetter(s []byte) bool { return !bytes.ContainsAny(s, "+-_") }

// unescape returns the character that the escape at the beginning of s stands for, and
// the length of the escape. The length is 0 unless the character is white space, or one
// that needs no escape.
func unescape(s []byte) (c byte, size int) {
	if len(s) < 2 {
		return 0, 0
	}
	switch s[1] {
	case 'n', 'r', 't':
		return ' ', 2
	case '/':
		return '/', 2
	case 'u':
		if len(s) < 6 {
			return 0, 0
		}
		code, err := strconv.ParseUint(string(s[2:6]), 16, 16)
		switch {
		case err != nil:
		case code == '\n' || code == '\r' || code == '\t':
			return ' ', 6
		case code >= ' ' && code < 0x7f && code != '"' && code != '\\':
			return byte(code), 6
		}
	}
	return 0, 0
}

// commasInJSON counts the commas outside of strings, of which there are almost as many as
// values. It stops above limit. The result is undefined for malformed JSON.
func commasInJSON(data []byte, limit int) (n int) {
	r := jsonReader{data: data}
	for r.at < len(data) && n <= limit {
		switch data[r.at] {
		case '"':
			if _, _, ok := r.quoted(); !ok {
				return n
			}
			continue
		case ',':
			n++
		}
		r.at++
	}
	return n
}

// maxName is longer than any field name of the contract, even with every letter
// escaped.
const maxName = 512

// unquote returns the string that s stands for, where s is the text between quotes. If
// s is longer than maxName, it returns the beginning of s.
func unquote(s []byte) string {
	if len(s) > maxName {
		return string(s[:maxName])
	}
	if bytes.IndexByte(s, '\\') < 0 {
		return string(s)
	}
	var text string
	if json.Unmarshal(slices.Concat([]byte{'"'}, s, []byte{'"'}), &text) != nil {
		return string(s)
	}
	return text
}

const (
	// The limits of IgnoredFieldsHeader: the number of paths, the bytes of all paths
	// together, and the bytes of one path.
	maxIgnored      = 8
	maxIgnoredBytes = 256
	maxIgnoredPath  = 100
	andMore         = "..."
	separator       = ", "
)

// ignoredFields collects the paths of the first fields that were ignored.
type ignoredFields struct {
	paths []string
	more  bool
}

// add adds the path of a field in the object at prefix. It percent-encodes all
// characters of the name except letters, digits, _ and -, so that the path is ASCII,
// and dots and commas only occur as separators.
func (f *ignoredFields) add(prefix, name string) {
	if len(f.paths) == maxIgnored {
		f.more = true
		return
	}
	path := []byte(prefix)
	if name == "" {
		path = append(path, `""`...)
	}
	for _, c := range []byte(name) {
		if len(path) > maxIgnoredPath-len(andMore)-3 {
			path = append(path, andMore...)
			break
		}
		if c == '_' || c == '-' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') {
			path = append(path, c)
		} else {
			path = append(path, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		}
	}
	if !slices.Contains(f.paths, string(path)) {
		f.paths = append(f.paths, string(path))
	}
}

func (f *ignoredFields) String() string {
	var b strings.Builder
	for i, path := range f.paths {
		if i > 0 {
			path = separator + path
		}
		if b.Len()+len(path)+len(separator+andMore) > maxIgnoredBytes {
			f.more = true
			break
		}
		b.WriteString(path)
	}
	if f.more {
		b.WriteString(separator + andMore)
	}
	return b.String()
}

// joinIgnored returns one list with the paths of both, each of which may be empty.
func joinIgnored(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	var f ignoredFields
	for path := range strings.SplitSeq(a+separator+b, separator) {
		if path == andMore || len(f.paths) == maxIgnored {
			f.more = true
		} else {
			f.paths = append(f.paths, path)
		}
	}
	return f.String()
}

// ignoredTag is a field number that no message may use, because 19000 to 19999 are
// reserved for protobuf itself. A codec can only return the message, so it returns the
// ignored fields in an unknown field of that number.
const ignoredTag = protowire.Number(19000)

// keepIgnored stores the list of ignored fields in m.
func keepIgnored(m proto.Message, ignored string) {
	if ignored != "" {
		m.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, ignoredTag, protowire.BytesType), ignored))
	}
}

// takeIgnored removes the list that keepIgnored has stored from message, and returns
// it. Binary messages never have one, because protoCodec discards unknown fields.
func takeIgnored(message any) string {
	m, ok := message.(proto.Message)
	if !ok || len(m.ProtoReflect().GetUnknown()) == 0 {
		return ""
	}
	unknown := m.ProtoReflect().GetUnknown()
	number, _, n := protowire.ConsumeTag(unknown)
	if number != ignoredTag || n < 0 {
		return ""
	}
	m.ProtoReflect().SetUnknown(nil)
	ignored, _ := protowire.ConsumeString(unknown[n:])
	return ignored
}
