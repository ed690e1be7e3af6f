package tidy

import (
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/rafka-mq/rafka"

// rule says what the code of one package may import besides the standard library.
type rule struct {
	ours   []string // packages of this module
	theirs []string // modules, or packages of modules
}

// rules is the architecture: wire <- log <- partition <- server, and wire <- client <- bench. A
// package that is not in the table needs a line here, and so a reason. Tests may import more.
var rules = map[string]rule{
	"wire":         {ours: []string{"wire/crc32c"}},
	"wire/crc32c":  {theirs: []string{"golang.org/x/sys"}},
	"wire/keyhash": {ours: []string{"wire"}, theirs: []string{"github.com/cespare/xxhash/v2"}},
	"wire/codec":   {ours: []string{"wire"}, theirs: []string{"github.com/klauspost/compress", "github.com/pierrec/lz4/v4"}},

	"group":   {},
	"subject": {},
	"auth":    {ours: []string{"subject"}, theirs: []string{"golang.org/x/crypto", "github.com/nats-io/nkeys"}},

	"log":         {ours: []string{"wire", "wire/codec", "wire/crc32c"}, theirs: []string{"golang.org/x/sys"}},
	"log/faultfs": {ours: []string{"log"}},

	"partition": {ours: []string{"wire", "wire/codec", "wire/keyhash", "log", "group", "subject"}, theirs: []string{"github.com/google/uuid", "github.com/robfig/cron/v3"}},

	"server": {
		ours: []string{"wire", "wire/codec", "log", "partition", "group", "subject", "auth", "internal/loopback"},
		theirs: []string{
			"github.com/panjf2000/gnet/v2", "github.com/valyala/bytebufferpool", "github.com/google/uuid",
			"github.com/prometheus/client_golang", "golang.org/x/sys", "golang.org/x/time",
		},
	},
	"internal/crash":    {},
	"server/servertest": {ours: []string{"server", "log"}},

	"client": {
		ours: []string{"wire", "wire/codec", "wire/keyhash", "internal/loopback"},
		theirs: []string{
			"github.com/cespare/xxhash/v2", "github.com/google/uuid",
			"golang.org/x/sync", // several requests at a time
			"golang.org/x/sys",  // what a socket has not delivered
		},
	},
	"bench/plot": {},
	"bench": {
		ours: []string{"wire", "client", "bench/plot", "internal/loopback"},
		theirs: []string{
			"github.com/panjf2000/gnet/v2", "golang.org/x/sync", "golang.org/x/sys",
			"github.com/HdrHistogram/hdrhistogram-go", "github.com/dustin/go-humanize",
			"github.com/jedib0t/go-pretty/v6",
		},
	},

	"config": {ours: []string{"wire", "auth"}, theirs: []string{"github.com/goccy/go-yaml", "github.com/dustin/go-humanize"}},
	"cmd/rafka": {
		ours: []string{"wire", "log", "partition", "client", "server", "bench", "config", "auth"},
		theirs: []string{
			"github.com/google/uuid",
			"github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/dustin/go-humanize",
			"github.com/jedib0t/go-pretty/v6", "github.com/schollz/progressbar/v3", "golang.org/x/term", "golang.org/x/sys",
			"github.com/nats-io/nkeys",
		},
	},

	"internal/loopback":    {theirs: []string{"golang.org/x/sys"}},
	"internal/seeds":       {},
	"internal/conformance": {},
	"internal/tidy":        {},
}

func TestEveryPackageImportsOnlyWhatItMay(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		r, ok := rules[f.pkg]
		require.True(t, ok, "package %s is not in the import table", f.pkg)
		for _, imp := range f.imports {
			require.True(t, r.allows(imp), "%s imports %s, which package %s may not", f.name, imp, f.pkg)
		}
	}
}

func (r rule) allows(imp string) bool {
	if ours, ok := strings.CutPrefix(imp, module+"/"); ok {
		return slices.Contains(r.ours, ours)
	}
	if first, _, _ := strings.Cut(imp, "/"); !strings.Contains(first, ".") {
		return true
	}
	return r.allowsTheirs(imp)
}

func (r rule) allowsTheirs(imp string) bool {
	return slices.ContainsFunc(r.theirs, func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") })
}

// What the table allows in vain says something about the architecture that is not so.
func TestTheImportTableAllowsNothingInVain(t *testing.T) {
	imports := map[string][]string{} // by package
	for _, f := range goFiles(t) {
		if !f.test {
			imports[f.pkg] = append(imports[f.pkg], f.imports...)
		}
	}
	for pkg, r := range rules {
		for _, ours := range r.ours {
			require.True(t, slices.Contains(imports[pkg], module+"/"+ours), "package %s does not import %s", pkg, ours)
		}
		for _, theirs := range r.theirs {
			used := slices.ContainsFunc(imports[pkg], rule{theirs: []string{theirs}}.allowsTheirs)
			require.True(t, used, "package %s does not import %s", pkg, theirs)
		}
	}
}

// The table itself must point down: no package reaches itself through what it imports.
func TestTheImportTableHasNoCycle(t *testing.T) {
	var visit func(pkg string, above []string)
	visit = func(pkg string, above []string) {
		require.NotContains(t, above, pkg, "a cycle: %v", append(above, pkg))
		require.Contains(t, rules, pkg)
		for _, below := range rules[pkg].ours {
			visit(below, append(slices.Clone(above), pkg))
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(rules)) {
		visit(pkg, nil)
	}
}

func TestNobodyImportsTheStandardLog(t *testing.T) {
	for _, f := range goFiles(t) {
		require.NotContains(t, f.imports, "log", "%s: use log/slog", f.name)
		for name, imp := range f.renamed {
			require.False(t, imp == module+"/log" && name != "_", "%s renames package log to %s", f.name, name)
		}
	}
}

func TestNoCatchAllPackages(t *testing.T) {
	for _, f := range goFiles(t) {
		require.NotContains(t, []string{"util", "utils", "common", "types", "manager", "helpers", "misc"}, path.Base(f.pkg),
			"%s: name the package after what it holds", f.name)
	}
}
