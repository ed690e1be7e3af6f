package main

import (
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"
)

// version is set by the linker; see the Makefile.
var version = ""

// buildInfo is what rafka version prints.
type buildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readBuildInfo() buildInfo {
	b := buildInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Revision = s.Value
		}
	}
	return b
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "say which rafka this is",
		Args:  exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			b := readBuildInfo()
			rows := [][2]string{{"rafka", b.Version}, {"revision", b.Revision}, {"go", b.Go}, {"platform", b.Platform}}
			if b.Revision == "" { // the compiler was not asked to look
				rows = slices.Delete(rows, 1, 2)
			}
			return c.printOne(b, rows)
		},
	}
}
