package crc32c

// powers has at k x to the power of 2^k modulo the polynomial of CRC32C. As in the checksum, the highest bit is the
// coefficient of the lowest power of x.
var powers = func() (p [32]uint32) {
	p[0] = 1 << 30
	for k := range p[1:] {
		p[k+1] = multiply(p[k], p[k])
	}
	return p
}()

// reversed is the polynomial of CRC32C.
const reversed = 0x82f63b78

// multiply returns a times b modulo the polynomial.
func multiply(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		if a>>31 != 0 {
			product ^= b
		}
		b = b>>1 ^ reversed&-(b&1)
	}
	return product
}

// power returns x to the power of n modulo the polynomial.
func power(n int) uint32 {
	p := uint32(1 << 31)
	for k := 0; n > 0; k, n = k+1, n>>1 {
		if n&1 != 0 {
			p = multiply(p, powers[k])
		}
	}
	return p
}

// Join returns the checksum of two concatenated buffers from their checksums a and b. n is the size of the second
// one in bytes. It takes up to 50 ns for every bit of n.
func Join(a, b uint32, n int) uint32 {
	return multiply(a, power(8*n)) ^ b
}
