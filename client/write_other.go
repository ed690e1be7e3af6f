//go:build !unix

package client

import "errors"

const canWriteDirectly = false

func writeOnce(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
