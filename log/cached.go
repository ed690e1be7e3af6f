package log

// maxCachedBytes bounds a read on an event loop, where all other connections wait for it: 1 MiB takes 0.2 ms.
const maxCachedBytes = maxPooledBuffer

// cachedReader is a File that can be read without waiting for the device.
type cachedReader interface {
	// ReadCached fills b with the bytes at pos. It returns false when the system does not have all of them in memory, or
	// cannot tell; b then holds anything.
	ReadCached(b []byte, pos int64) bool
}

// ReadCached is ReadCold for what the system has in its page cache, where the last read of the segment ended. It does not
// wait for the disk, so it may be called on an event loop. In any other case, and for more than 1 MiB, it returns
// ErrCold: then ReadCold finds the records, or says what is wrong with them.
func (l *Log) ReadCached(c *Chunk, offset, limit uint64, maxBytes int) error {
	c.Next = offset
	at, ok := l.locate(offset)
	if !ok || at.seg == nil || maxBytes > maxCachedBytes {
		return ErrCold
	}
	v := l.store.views.get(viewKey{at.seg.path, at.seg.size})
	if v == nil {
		return ErrCold
	}
	defer l.store.views.release(v)
	left := v.left.Load()
	f, ok := v.file.(cachedReader)
	if !ok || left == nil || left.offset != offset || left.pos >= v.end {
		return ErrCold
	}
	c.buffer = getBuffer(readSize(v, left.pos, maxBytes))
	if f.ReadCached(*c.buffer, left.pos) {
		l.collect(c, v, left.pos, min(limit, at.end.offset), maxBytes)
	}
	if c.Bytes == 0 {
		c.Release()
		c.Next = offset
		return ErrCold
	}
	return nil
}
