// Package seeds runs model tests: random operations against a simple model, where every choice follows from
// one number, the seed. Their names begin with TestModel.
//
// A model test runs some seeds in every run of the tests. The environment asks for others: RAFKA_SEEDS says
// how many, RAFKA_SEED which is the first. So RAFKA_SEED=17 repeats seed 17 alone, and RAFKA_SEEDS=5000 runs
// the seeds 1 to 5000.
package seeds

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

const (
	firstVar = "RAFKA_SEED"
	countVar = "RAFKA_SEEDS"
)

// Each runs a model as a subtest for each seed: for 1 to n and one of the moment, unless the environment
// says which. A seed that fails says how to repeat it.
func Each(t *testing.T, n uint64, run func(t *testing.T, seed uint64)) {
	t.Helper()
	list, err := choose(n, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	again := "repeat with %s=%d go test -run '^%s$'"
	name := t.Name()
	for _, seed := range list {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			done := false
			defer func() {
				if t.Failed() || !done {
					t.Logf(again, firstVar, seed, name)
				}
			}()
			run(t, seed)
			done = true
		})
	}
}

// choose returns the seeds to be run.
func choose(n uint64, getenv func(string) string) ([]uint64, error) {
	first, one, err := number(firstVar, getenv)
	if err != nil {
		return nil, err
	}
	count, many, err := number(countVar, getenv)
	switch {
	case err != nil:
		return nil, err
	case one && many:
		return from(first, count), nil
	case one:
		return from(first, 1), nil
	case many:
		return from(1, count), nil
	}
	return append(from(1, n), rand.Uint64()), nil
}

func number(name string, getenv func(string) string) (n uint64, ok bool, err error) {
	v := getenv(name)
	if v == "" {
		return 0, false, nil
	}
	if n, err = strconv.ParseUint(v, 10, 64); err != nil {
		return 0, false, fmt.Errorf("%s: %q is not a number", name, v)
	}
	return n, true, nil
}

func from(first, count uint64) (list []uint64) {
	for i := range count {
		list = append(list, first+i)
	}
	return list
}
