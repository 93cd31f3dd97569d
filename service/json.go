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

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// IgnoredFieldsHeader names, in the answer to a JSON call, the fields of the request
// that the server does not know, and those whose value is an enum name that it does
// not know. They are ignored.
const IgnoredFieldsHeader = "Mien-Ignored-Fields"

// jsonShape is what a JSON object may hold.
type jsonShape struct {
	// prefix is the path of the object, with a dot at its end; empty for the outermost.
	prefix string
	fields map[string]jsonField
}

// jsonField is a field, or each element of a repeated one.
type jsonField struct {
	base64 bool                        // it is bytes
	enum   protoreflect.EnumDescriptor // nil unless it is an enum
	object *jsonShape                  // nil unless it is a message
}

// jsonShapes are the shapes of all requests.
var jsonShapes = func() map[protoreflect.FullName]*jsonShape {
	shapes := map[protoreflect.FullName]*jsonShape{}
	for _, m := range []proto.Message{&inferencev1.Image{}, &inferencev1.PredictBatchRequest{}, &inferencev1.ListModelsRequest{}} {
		descriptor := m.ProtoReflect().Descriptor()
		shapes[descriptor.FullName()] = shapeOf(descriptor, "")
	}
	return shapes
}()

// oldShape is that of the old system's request to /predict.
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
		// Those of google.protobuf have a JSON of their own, and keys of maps are not names.
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

// byteOrderMark is U+FEFF in UTF-8, which some editors and PowerShell write before
// JSON.
var byteOrderMark = []byte("\xef\xbb\xbf")

// prepareJSON returns data as protojson and encoding/json read it, and the fields
// that they ignore, as IgnoredFieldsHeader has them. It removes a byte-order mark,
// and changes the base64 of fields of bytes in place: they lose white space (even
// bare line breaks, as in shell scripts), escapes and padding, so that all readers
// take them alike. Anything that is not JSON stays as it is.
//
// It skips values rather than parse them: with 16 MiB in base64 it takes a fifteenth of
// the time that protojson does.
func prepareJSON(data []byte, shape *jsonShape) (text []byte, ignored string) {
	r := jsonReader{data: bytes.TrimPrefix(data, byteOrderMark)}
	r.read(shape)
	return r.data, r.ignored.String()
}

// jsonReader walks through JSON. Its methods report false at anything that is not
// JSON, and at the end of the data.
type jsonReader struct {
	data []byte
	at   int
	// plus is a byte that stands for a + of a query, which is a space or a letter of
	// base64 that was not escaped; 0 when there is none.
	plus    byte
	ignored ignoredFields
}

// read reads the outermost object.
func (r *jsonReader) read(shape *jsonShape) {
	if shape != nil && r.next() == '{' {
		r.object(shape)
	}
}

// next skips white space, and returns the byte behind it, 0 at the end.
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

// object reads an object, at its brace.
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

// value reads a value, or the values of a list.
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

// quoted reads a string, at its quote, and returns the bounds of what is quoted.
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

// base64 rewrites a string of base64 in place: without white space, escapes and
// padding, and with the bytes that are left over as white space behind its quote.
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
	const chunk = 16 << 10 // stays in the fastest cache from one search to the next
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
		case size == 0: // for the reader of the JSON to tell
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

// plusIsLetter reports whether the bare + of a query is a letter of the base64 s. It
// is white space to those who escape that letter, or have another alphabet.
func plusIsLetter(s []byte) bool { return !bytes.ContainsAny(s, "+-_") }

// unescape returns what the escape at the beginning of s stands for, and its length:
// 0 unless it is white space, or a character that needs no escape.
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

// maxName is more than any name of the contract has, even with each letter escaped.
const maxName = 512

// unquote returns what is quoted; of anything longer than names are, what it begins
// with.
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
	// maxIgnored, maxIgnoredBytes and maxIgnoredPath bound IgnoredFieldsHeader: how
	// many paths, how many bytes, and how many bytes of one path.
	maxIgnored      = 8
	maxIgnoredBytes = 256
	maxIgnoredPath  = 100
	andMore         = "..."
)

// ignoredFields are the first paths of fields that were ignored.
type ignoredFields struct {
	paths []string
	more  bool
}

// add adds the path of a field in the object at prefix. In its name, all but
// letters, digits, _ and - are percent-encoded, so that it is ASCII, and dots and
// commas are those of paths and lists.
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
	const separator = ", "
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

// ignoredTag is a field number that no message may use (19000 to 19999 are
// protobuf's own): a codec has no other way to hand on what it has ignored than in
// the message.
const ignoredTag = protowire.Number(19000)

// keepIgnored keeps in m what was ignored of it.
func keepIgnored(m proto.Message, ignored string) {
	if ignored != "" {
		m.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, ignoredTag, protowire.BytesType), ignored))
	}
}

// takeIgnored takes from message what keepIgnored has kept there. Messages that come
// in binary never have it: protoCodec discards what it does not know.
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
