package tidy

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the top of the tree, seen from this package.
const root = "../.."

// goFile is what the rules need to know of one Go file.
type goFile struct {
	name    string // from the top of the tree
	pkg     string // the folder, which is the import path behind the module
	test    bool
	imports []string
	renamed map[string]string // local name to import path
}

// walk calls fn for every file of the tree that is kept in version control.
func walk(t *testing.T, fn func(name string)) {
	t.Helper()
	skip := []string{".git", "bin", "data", "testdata"}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains(skip, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		fn(filepath.ToSlash(rel))
		return nil
	})
	require.NoError(t, err)
}

// ownModules returns the folders that have a go.mod of their own, below the top.
func ownModules(t *testing.T) []string {
	t.Helper()
	var dirs []string
	walk(t, func(name string) {
		if path.Base(name) == "go.mod" && name != "go.mod" {
			dirs = append(dirs, path.Dir(name)+"/")
		}
	})
	return dirs
}

func goFiles(t *testing.T) []goFile {
	t.Helper()
	apart := ownModules(t)
	var files []goFile
	walk(t, func(name string) {
		inApart := slices.ContainsFunc(apart, func(dir string) bool { return strings.HasPrefix(name, dir) })
		if path.Ext(name) == ".go" && !inApart {
			files = append(files, readGo(t, name))
		}
	})
	require.NotEmpty(t, files)
	return files
}

func readGo(t *testing.T, name string) goFile {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), path.Join(root, name), nil, parser.ImportsOnly)
	require.NoError(t, err)
	f := goFile{
		name: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
		renamed: make(map[string]string),
	}
	for _, spec := range parsed.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		f.imports = append(f.imports, imp)
		if spec.Name != nil {
			f.renamed[spec.Name.Name] = imp
		}
	}
	return f
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(path.Join(root, name))
	require.NoError(t, err)
	return string(b)
}

func TestNoUnfinishedWork(t *testing.T) {
	words := regexp.MustCompile(`\b(` + "TO" + `DO|FIX` + `ME|XX` + `X)\b`)
	text := []string{".go", ".sh", ".md", ".yml", ".yaml", ""}
	walk(t, func(name string) {
		if slices.Contains(text, path.Ext(name)) {
			require.NotRegexp(t, words, read(t, name), "%s has unfinished work", name)
		}
	})
}

func TestTheReadmeStaysShort(t *testing.T) {
	lines := strings.Count(read(t, "README.md"), "\n")
	require.LessOrEqual(t, lines, 200, "README.md: move details to docs/")
}

func TestEveryMetricIsDocumented(t *testing.T) {
	metric := regexp.MustCompile(`(json:)?"(rafka_[a-z0-9_]+)"`)
	docs := read(t, "docs/operations.md")
	for _, f := range goFiles(t) {
		if f.pkg != "server" || f.test {
			continue
		}
		for _, m := range metric.FindAllStringSubmatch(read(t, f.name), -1) {
			if m[1] == "" {
				require.True(t, strings.Contains(docs, "`"+m[2]+"`"), "%s: %s is not in docs/operations.md", f.name, m[2])
			}
		}
	}
}

func TestScriptsCanBeRun(t *testing.T) {
	walk(t, func(name string) {
		if path.Ext(name) != ".sh" && name != ".ci/run" {
			return
		}
		info, err := os.Stat(path.Join(root, name))
		require.NoError(t, err)
		require.NotZero(t, info.Mode()&0o100, "%s is not executable", name)
		require.True(t, strings.HasPrefix(read(t, name), "#!/usr/bin/env bash\n"), "%s does not name bash", name)
	})
}
