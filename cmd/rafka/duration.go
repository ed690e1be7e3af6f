package main

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/rafka-mq/rafka/wire"
)

// durationValue is the value of a flag that knows days, as settings do: 90s, 12h, 7d, 1d12h.
type durationValue time.Duration

func durationVar(f *pflag.FlagSet, d *time.Duration, name string, value time.Duration, usage string) {
	*d = value
	f.Var((*durationValue)(d), name, usage)
}

func durationVarP(f *pflag.FlagSet, d *time.Duration, name, short string, value time.Duration, usage string) {
	*d = value
	f.VarP((*durationValue)(d), name, short, usage)
}

func (d *durationValue) Set(s string) (err error) {
	*(*time.Duration)(d), err = wire.ParseDuration(s)
	return err
}

// String leaves zero without a unit, which help texts do not show as a default.
func (d *durationValue) String() string {
	if *d == 0 {
		return "0"
	}
	return time.Duration(*d).String()
}

func (*durationValue) Type() string { return "duration" }
