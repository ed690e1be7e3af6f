package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// fromEnv marks a flag whose value came from the environment.
const fromEnv = "from-env"

// flagsFromEnv sets every flag of cmd that has an environment variable and was not given on the
// command line.
func (c *cli) flagsFromEnv(cmd *cobra.Command) error {
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value, ok := c.env(envName(f.Name))
		if f.Changed || !ok || f.Name == "help" || f.Name == "version" || injected(f.Name, value) || c.ofMessage(f.Name) || failed != nil {
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			failed = usagef(cmd, "%s: %v", envName(f.Name), err)
			return
		}
		if f.Annotations == nil {
			f.Annotations = make(map[string][]string)
		}
		f.Annotations[fromEnv] = []string{"true"}
	})
	return failed
}

// envName returns the environment variable of a flag: RAFKA_MEMORY_BYTES for memory-bytes.
func envName(flag string) string {
	return "RAFKA_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// injected reports whether Kubernetes set the value: for a service called rafka it sets
// RAFKA_PORT=tcp://10.0.0.1:4222 in every pod, which is not a port number.
func injected(flag, value string) bool {
	return flag == "port" && strings.HasPrefix(value, "tcp://")
}

// ofMessage reports whether the variable of a flag describes a message: --exec sets RAFKA_KEY and others,
// which must not become flags of a rafka that the command runs.
func (c *cli) ofMessage(flag string) bool {
	_, inExec := c.env("RAFKA_SUBJECT")
	return inExec && (flag == "topic" || flag == "partition" || flag == "key")
}
