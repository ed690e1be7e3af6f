package main

import (
	"bytes"
	"fmt"
	"regexp"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// lineKey says how to find the key of a message in its line. The key remains part of the line.
type lineKey struct {
	pattern   string
	field     int
	separator string
	re        *regexp.Regexp
}

func (k *lineKey) flags(fs *pflag.FlagSet) {
	fs.StringVar(&k.pattern, "key-regex", "", "with --lines: regular expression for the key: its first group, or the whole match")
	fs.IntVar(&k.field, "key-field", 0, "with --lines: number of the field that is the key, from 1")
	fs.StringVar(&k.separator, "key-sep", "", "separator of the fields for --key-field; default: white space")
}

func (k *lineKey) prepare(cmd *cobra.Command) error {
	if k.separator != "" && k.field == 0 {
		k.field = 1
	}
	if k.field < 0 {
		return usagef(cmd, "key-field %d: fields count from 1", k.field)
	}
	if k.pattern == "" {
		return nil
	}
	if k.field != 0 {
		return usagef(cmd, "--key-regex and --key-field both say where the key is")
	}
	re, err := regexp.Compile(k.pattern)
	if err != nil {
		return usagef(cmd, "key-regex: %v", err)
	}
	k.re = re
	return nil
}

// used reports whether keys are taken from lines.
func (k *lineKey) used() bool { return k.re != nil || k.field != 0 }

// of returns the key of a line, as a view of it, or an error when the line has none.
func (k *lineKey) of(line []byte) ([]byte, error) {
	if k.re != nil {
		m := k.re.FindSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("no match of key-regex %q", k.pattern)
		}
		return m[min(1, len(m)-1)], nil
	}
	fields := bytes.Fields(line)
	if k.separator != "" {
		fields = bytes.Split(line, []byte(k.separator))
	}
	if len(fields) < k.field {
		return nil, fmt.Errorf("no field %d for the key", k.field)
	}
	return fields[k.field-1], nil
}
