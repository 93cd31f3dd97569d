package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
)

const (
	// maxKeys is the maximum number of keys in a file. Each check compares all of them,
	// which takes about 20 ns for each.
	maxKeys = 1000
	// maxKeyBytes is the maximum length of a key. Longer ones are not even hashed.
	maxKeyBytes = 512
	// keyPrefix marks new keys, so that people and secret scanners recognize them.
	keyPrefix = "mien_"
	// keyBytes is the number of random bytes in a new key.
	keyBytes = 32
	// hashPrefix names the hash in a file of keys.
	hashPrefix = "sha256:"
)

// A key is a line of a file of keys: the name of a caller, and the hash of one of its keys.
type key struct {
	name string
	hash [sha256.Size]byte
}

// hash returns the hash of a key: SHA-256, because keys are random. The slow hashes for
// passwords (bcrypt, scrypt, Argon2) make it expensive to guess what people choose. With 256
// random bits there is nothing to guess, and a slow hash would only let strangers make the
// server work by sending wrong keys.
func hash(secret string) [sha256.Size]byte { return sha256.Sum256([]byte(secret)) }

// callerName matches the names of callers, which logs and metrics have.
var callerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

func checkName(name string) error {
	if !callerName.MatchString(name) {
		return fmt.Errorf("%q is not a name of a caller: use at most 64 letters, digits, dots, hyphens, underscores and @, and begin with a letter or digit", name)
	}
	return nil
}

// NewKey makes a key for the caller of that name, and returns it together with its line
// for the file. The line has only the hash of the key.
func NewKey(name string) (secret, line string, err error) {
	if err := checkName(name); err != nil {
		return "", "", err
	}
	random := make([]byte, keyBytes)
	_, _ = rand.Read(random) // it never returns an error
	secret = keyPrefix + base64.RawURLEncoding.EncodeToString(random)
	sum := hash(secret)
	return secret, name + " " + hashPrefix + hex.EncodeToString(sum[:]), nil
}

// parseKeys reads a file of keys: on each line a name and a hash. What follows a # is a
// comment. A caller may have several lines, so that it can change its key while both the
// old and the new one are accepted.
func parseKeys(data []byte) ([]key, error) {
	var keys []key
	seen := map[[sha256.Size]byte]int{}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		text, _, _ := strings.Cut(line, "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		k, err := parseKey(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if first := seen[k.hash]; first > 0 {
			return nil, fmt.Errorf("line %d: the key of line %d is repeated; each line needs a key of its own", n, first)
		}
		seen[k.hash] = n
		if keys = append(keys, k); len(keys) > maxKeys {
			return nil, fmt.Errorf("line %d: there are more than %d keys, which is the limit", n, maxKeys)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key in the file, so nobody could call; mien keys add NAME makes a key and its line")
	}
	return keys, nil
}

// parseKey reads the fields of a line. Its errors do not quote what may be a key.
func parseKey(fields []string) (k key, err error) {
	if len(fields) != 2 {
		return k, fmt.Errorf("it has %d fields; write a name and a hash, as mien keys add NAME prints them", len(fields))
	}
	k.name = fields[0]
	if strings.HasPrefix(k.name, hashPrefix) || strings.HasPrefix(k.name, keyPrefix) {
		return k, errors.New("it does not begin with the name of a caller; write a name and a hash, as mien keys add NAME prints them")
	}
	if err := checkName(k.name); err != nil {
		return k, err
	}
	digits, ok := strings.CutPrefix(fields[1], hashPrefix)
	sum, err := hex.DecodeString(digits)
	if !ok || err != nil || len(sum) != sha256.Size {
		return k, fmt.Errorf("the hash of %s is not %s and %d hexadecimal digits; mien keys add NAME makes a key and its line, or hash a random key with: printf %%s KEY | sha256sum", k.name, hashPrefix, 2*sha256.Size)
	}
	copy(k.hash[:], sum)
	return k, nil
}

// Keys has the API keys of callers. It is safe for concurrent use. The zero value has no
// keys.
type Keys struct{ current atomic.Pointer[[]key] }

// Load replaces all keys by those in the content of a file. If it returns an error, which
// names the line, the keys stay as they were.
func (k *Keys) Load(file []byte) error {
	keys, err := parseKeys(file)
	if err != nil {
		return err
	}
	k.current.Store(&keys)
	return nil
}

// Names returns the number of keys, and that of callers that have them.
func (k *Keys) Names() (keys, callers int) {
	names := map[string]bool{}
	for _, each := range k.list() {
		names[each.name] = true
	}
	return len(k.list()), len(names)
}

// caller returns the name of the caller that has the key, or "". How long it takes depends
// on the number of keys, and not on which of them it is or how similar.
func (k *Keys) caller(secret string) string {
	if len(secret) > maxKeyBytes {
		return ""
	}
	sum := hash(secret)
	keys := k.list()
	found := -1
	for i := range keys {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], keys[i].hash[:]), i, found)
	}
	if found < 0 {
		return ""
	}
	return keys[found].name
}

func (k *Keys) list() []key {
	if keys := k.current.Load(); keys != nil {
		return *keys
	}
	return nil
}
