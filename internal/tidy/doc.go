// Package tidy holds the test of the rules that the compiler does not know: who may import whom,
// which words may not stay in the tree, how long the README may grow, and that every metric is
// documented. The import table in its test is the architecture in one place.
package tidy
