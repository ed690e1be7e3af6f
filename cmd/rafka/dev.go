package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/config"
)

const devExample = `  rafka dev
  rafka dev --listen 127.0.0.1:0 --admin off --port-file /tmp/dev`

// devCommand runs a broker for trying things out. It stores in files, so that what it says about
// durability is true, and deletes them when it ends.
func (c *cli) devCommand() *cobra.Command {
	var portFile string
	flags := devConfig()
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "run a throw-away broker whose data is deleted when it ends",
		Long: `Run a broker for trying things out. Its data is in a directory of its own below $TMPDIR, and is deleted
when it ends; if it is killed, the next rafka dev of the same user deletes it.`,
		Example: devExample,
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := refuse(cmd, "rafka serve; this broker has its own data, which is deleted when it ends", "data", "storage"); err != nil {
				return err
			}
			cfg, err := layered(cmd, devConfig(), "")
			if err != nil {
				return err
			}
			c.removeDead()
			dir, err := newDevDir()
			if err != nil {
				return fmt.Errorf("make a data directory: %w", err)
			}
			defer func() { err = errors.Join(err, dir.remove()) }()
			cfg.Storage.Dir = dir.data()
			cfg.Storage.Type = config.StorageFile
			return c.serve(cmd.Context(), cfg, broker{
				portFile: portFile,
				reload:   func() (config.Config, error) { return layered(cmd, devConfig(), "") },
				data:     dir.data(),
				tips:     []string{"pub orders hello --key alice", "sub orders --from start"},
				banner:   true,
			})
		},
	}
	cmd.Flags().StringVar(&portFile, "port-file", "", "write the addresses of the client port and the admin port to this file, one on each line")
	bindSettings(cmd.Flags(), &flags)
	for _, name := range []string{"data", "storage"} {
		_ = cmd.Flags().MarkHidden(name) // the environment may set them for rafka serve
	}
	return cmd
}

func devConfig() config.Config {
	c := config.Default()
	c.Log.Level = "warn"
	return c
}
