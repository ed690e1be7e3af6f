package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

const (
	bcryptPrefix   = "$2"
	argon2idPrefix = "$argon2id$"
	// bcryptCost makes one check take about 60 ms.
	bcryptCost = 10
	// maxBcrypt is how many bytes of a password bcrypt looks at.
	maxBcrypt = 72
	// maxSecret is the largest size of a secret in bytes.
	maxSecret = 1024
	// Bounds for the parameters of hashes: with the largest ones a check takes a few seconds. Two checks run at a time,
	// so a few logins that take longer would keep everybody out.
	maxBcryptCost  = 16
	maxArgonMemory = 1 << 20 // KiB
	maxArgonWork   = 4 << 20 // KiB times passes
)

var (
	// errHash is returned for a secret that begins like a hash and is not a valid one.
	errHash = errors.New("the hash of the password is malformed")
	// errCostly is returned for a valid hash that is beyond the bounds.
	errCostly = fmt.Errorf("the hash of the password would take too long to check: bcrypt may have a cost of up to %d, argon2id up to %d GiB and %d passes",
		maxBcryptCost, maxArgonMemory>>20, maxArgonWork/maxArgonMemory)
)

// isHash reports whether a configured secret is a hash.
func isHash(secret string) bool {
	return strings.HasPrefix(secret, argon2idPrefix) || isBcrypt(secret)
}

// isBcrypt reports whether secret has the form of a bcrypt hash: "$2", a letter, "$".
func isBcrypt(secret string) bool {
	return len(secret) > 4 && strings.HasPrefix(secret, bcryptPrefix) && strings.IndexByte("abxy", secret[2]) >= 0 && secret[3] == '$'
}

// checkSecret refuses secrets that are too long or malformed hashes.
func checkSecret(secret string) error {
	switch {
	case len(secret) > maxSecret:
		return fmt.Errorf("a password of over %d bytes", maxSecret)
	case isBcrypt(secret):
		cost, err := bcrypt.Cost([]byte(secret))
		if err != nil {
			return errHash
		}
		if cost > maxBcryptCost {
			return errCostly
		}
	case strings.HasPrefix(secret, argon2idPrefix):
		if _, err := parseArgon2id(secret); err != nil {
			return err
		}
	case hashKind(secret) != "":
		return fmt.Errorf("the password looks like a hash of the kind %s: the broker knows bcrypt and argon2id, as rafka passwd prints them", hashKind(secret))
	}
	return nil
}

// hashKind returns how a secret in the form of a hash begins, such as "$6$", or "" for others. The form is that of
// crypt(3): a kind and at least two more parts.
func hashKind(secret string) string {
	parts := strings.SplitN(secret, "$", 4)
	if len(parts) < 4 || parts[0] != "" || parts[1] == "" || strings.Trim(parts[1], "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return ""
	}
	return "$" + parts[1] + "$"
}

// matches compares what a client sent with a configured secret. The time does not depend on where
// they differ.
func matches(configured, said string) bool {
	switch {
	case len(said) > maxSecret:
		return false
	case isBcrypt(configured):
		return bcrypt.CompareHashAndPassword([]byte(configured), []byte(said)) == nil
	case strings.HasPrefix(configured, argon2idPrefix):
		h, err := parseArgon2id(configured)
		return err == nil && h.matches(said)
	}
	a, b := sha256.Sum256([]byte(configured)), sha256.Sum256([]byte(said))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// argon2id is a hash in the PHC string format, as the reference implementation prints it.
type argon2id struct {
	memory, time uint32
	threads      uint8
	salt, sum    []byte
}

func parseArgon2id(s string) (h argon2id, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != "v=19" {
		return h, errHash
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); n != 3 || err != nil {
		return h, errHash
	}
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[4])
	sum, sumErr := base64.RawStdEncoding.DecodeString(parts[5])
	h.salt, h.sum = salt, sum
	if saltErr != nil || sumErr != nil || len(salt) < 8 || len(sum) < 16 || len(sum) > 64 ||
		h.time == 0 || h.threads == 0 {
		return h, errHash
	}
	if h.memory > maxArgonMemory || uint64(h.memory)*uint64(h.time) > maxArgonWork {
		return h, errCostly
	}
	return h, nil
}

func (h argon2id) matches(said string) bool {
	sum := argon2.IDKey([]byte(said), h.salt, h.time, h.memory, h.threads, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(sum, h.sum) == 1
}

// HashBcrypt returns the bcrypt hash of a password of 1 to 72 bytes.
func HashBcrypt(password string) (string, error) {
	switch {
	case password == "":
		return "", errors.New("the password is empty")
	case len(password) > maxBcrypt:
		return "", fmt.Errorf("bcrypt takes a password of up to %d bytes, argon2id one of up to %d", maxBcrypt, maxSecret)
	}
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcryptCost)
	return string(h), err
}

// HashArgon2id returns the argon2id hash of a password of 1 to 1,024 bytes. The parameters are
// those that RFC 9106 recommends for little memory: 64 MiB, three passes.
func HashArgon2id(password string) (string, error) {
	if password == "" || len(password) > maxSecret {
		return "", fmt.Errorf("a password has 1 to %d bytes", maxSecret)
	}
	h := argon2id{memory: 64 << 10, time: 3, threads: 4, salt: make([]byte, 16)}
	if _, err := rand.Read(h.salt); err != nil {
		return "", err
	}
	sum := argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, 32)
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", h.memory, h.time, h.threads,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(sum)), nil
}
