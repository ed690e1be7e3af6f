package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/rafka-mq/rafka/wire"
)

const (
	// readBytes is the size of a connection's read buffer: enough for many answers in one read.
	readBytes = 128 << 10
	// largeFrame is the size from which a frame is read into a buffer of its own, which saves a
	// copy.
	largeFrame = 32 << 10
	// smallRead is how much is read after a large frame. Another large frame often follows, and
	// what is read of it together with its header has to be copied.
	smallRead = 4 << 10
)

// frame is a received frame. Its body is valid until the next frame is read, unless own or keep was
// called.
type frame struct {
	wire.Frame
	large *buffer // holds Body if the frame was read into a buffer of its own
	pool  *bufferPool
}

// own returns a buffer with the body that stays valid. It may become the user's: nobody recycles it
// but its owner.
func (f *frame) own() *buffer {
	if f.large != nil {
		return f.keep()
	}
	return &buffer{body: append(make([]byte, 0, len(f.Body)), f.Body...)}
}

// keep returns a buffer with the body that stays valid until the caller puts it back into the pool.
func (f *frame) keep() *buffer {
	b := f.large
	if b == nil {
		b = f.pool.get(len(f.Body))
		b.body = b.mem[:copy(b.mem, f.Body):len(f.Body)]
		return b
	}
	f.large = nil
	b.body = f.Body
	return b
}

// frameReader splits what a connection receives into frames. It is not safe for concurrent use.
type frameReader struct {
	src   io.Reader
	pool  *bufferPool
	limit int
	buf   []byte
	r, w  int

	big    *buffer // holds a large frame that is being read, else nil
	bigHas int     // bytes of it that were read
	bigIs  int     // size of that frame
	behind bool    // the last frame was a large one
}

func newFrameReader(src io.Reader, pool *bufferPool) *frameReader {
	return &frameReader{src: src, pool: pool, limit: wire.MaxReplyBytes, buf: make([]byte, readBytes)}
}

// next returns the next frame. The caller recycles it after use. When a read fails because of a
// deadline, next can be called again.
func (fr *frameReader) next() (frame, error) {
	if fr.big != nil {
		return fr.large()
	}
	for {
		f, rest, need, ok, err := wire.NextFrame(fr.buf[fr.r:fr.w], fr.limit)
		if err != nil {
			return frame{}, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if ok {
			fr.r = fr.w - len(rest)
			return frame{Frame: f, pool: fr.pool}, nil
		}
		if need > largeFrame {
			fr.beginLarge(need)
			return fr.large()
		}
		if err := fr.fill(); err != nil {
			return frame{}, err
		}
	}
}

// buffered returns how many bytes were read and not returned in a frame.
func (fr *frameReader) buffered() int { return fr.w - fr.r + fr.bigHas }

// waits reports whether next will have to read.
func (fr *frameReader) waits() bool {
	b := fr.buf[fr.r:fr.w]
	return len(b) < wire.HeaderBytes || uint64(len(b)) < uint64(binary.LittleEndian.Uint32(b))+4
}

// head returns the next frame without its body. ok is false when its header is not read yet.
func (fr *frameReader) head() (f wire.Frame, ok bool) {
	b := fr.buf[fr.r:fr.w]
	if len(b) < wire.HeaderBytes {
		return f, false
	}
	return wire.Frame{Op: wire.Op(b[4]), Flags: wire.Flags(b[5]), Correlation: binary.LittleEndian.Uint32(b[6:])}, true
}

// refusal returns the sentence of a broker that turned the connection away, which it says in text because it
// does not know yet who is there, or "".
func (fr *frameReader) refusal() string {
	line, ok := bytes.CutPrefix(fr.buf[fr.r:fr.w], []byte("-ERR '"))
	if !ok {
		return ""
	}
	sentence, _, _ := bytes.Cut(line, []byte("'\r\n"))
	return string(sentence)
}

// recycle takes back the memory of f, unless own or keep has taken it.
func (fr *frameReader) recycle(f *frame) {
	if f.large != nil {
		fr.pool.put(f.large)
	}
}

// fill reads at least one byte.
func (fr *frameReader) fill() error {
	if fr.r == fr.w {
		fr.r, fr.w = 0, 0
	} else if fr.w == len(fr.buf) {
		fr.w = copy(fr.buf, fr.buf[fr.r:fr.w])
		fr.r = 0
	}
	end := len(fr.buf)
	if fr.behind {
		fr.behind, end = false, max(smallRead, fr.w+1)
	}
	n, err := fr.src.Read(fr.buf[fr.w:end])
	fr.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	if errors.Is(err, io.EOF) && fr.r != fr.w {
		return io.ErrUnexpectedEOF
	}
	return err
}

// beginLarge takes a buffer for a frame of the given size, and moves into it what was read of the
// frame.
func (fr *frameReader) beginLarge(need int) {
	if op := fr.buf[fr.r:fr.w][4:]; len(op) > 0 && hasMessages(wire.Op(op[0])) {
		fr.big = fr.pool.get(need) // recycled when its messages were handled or released
	} else {
		fr.big = &buffer{mem: make([]byte, need)} // becomes the user's
	}
	fr.bigHas, fr.bigIs = copy(fr.big.mem, fr.buf[fr.r:fr.w]), need
	fr.r, fr.w = 0, 0
}

// hasMessages reports whether frames of an operation bring stored messages.
func hasMessages(op wire.Op) bool {
	switch op {
	case wire.OpDeliver, wire.OpLease | wire.OpReply, wire.OpFetch | wire.OpReply:
		return true
	}
	return false
}

// large reads the rest of a large frame.
func (fr *frameReader) large() (frame, error) {
	n, err := io.ReadFull(fr.src, fr.big.mem[fr.bigHas:fr.bigIs])
	fr.bigHas += n
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return frame{}, err
	}
	b, need := fr.big, fr.bigIs
	fr.big, fr.bigHas, fr.bigIs, fr.behind = nil, 0, 0, true
	if err != nil {
		fr.pool.put(b)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	f, _, _, ok, err := wire.NextFrame(b.mem[:need], fr.limit)
	if err != nil || !ok {
		return frame{}, fmt.Errorf("%w: %w", ErrProtocol, wire.ErrMalformed)
	}
	return frame{Frame: f, large: b, pool: fr.pool}, nil
}
