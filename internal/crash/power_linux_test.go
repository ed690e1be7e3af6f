package crash

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// powerVar is how often the power fails; make test-power sets it. The test mounts file systems, so
// nobody runs it by accident.
const powerVar = "RAFKA_POWER_CYCLES"

const (
	deviceBytes = 2 << 30
	// fsShutdown ends a file system at once: FS_IOC_SHUTDOWN. With noLogFlush everything that was not
	// flushed to the device is gone, the journal too.
	fsShutdown = 0x8004587d
	noLogFlush = 2
)

// device is a file system on a file.
type device struct {
	t     *testing.T
	image string
	dir   string
}

// newDevice makes a file system of a kind that can be shut down: ext4 or xfs.
func newDevice(t *testing.T, kind string) *device {
	t.Helper()
	d := &device{t: t, image: filepath.Join(t.TempDir(), "image"), dir: t.TempDir()}
	f, err := os.Create(d.image)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(deviceBytes))
	require.NoError(t, f.Close())
	d.run("mkfs."+kind, "-q", d.image)
	d.mount()
	t.Cleanup(d.unmount)
	return d
}

func (d *device) run(name string, args ...string) {
	d.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(d.t, err, "%s %v: %s", name, args, out)
}

func (d *device) mount() { d.run("mount", "-o", "loop", d.image, d.dir) }

func (d *device) unmount() { d.run("umount", d.dir) }

// cut takes the power away and gives it back.
func (d *device) cut() {
	d.t.Helper()
	f, err := os.Open(d.dir)
	require.NoError(d.t, err)
	require.NoError(d.t, unix.IoctlSetPointerInt(int(f.Fd()), fsShutdown, noLogFlush))
	require.NoError(d.t, f.Close())
	d.unmount()
	d.mount()
}

// TestAcknowledgedMeansThereAfterAPowerFailure kills the broker first: a file system that ends under a
// living process can lose on ext4 what was flushed, and no power failure is like that.
func TestAcknowledgedMeansThereAfterAPowerFailure(t *testing.T) {
	cycles := number(t, powerVar, 0)
	if cycles == 0 {
		t.Skip("set " + powerVar + " and be root: this mounts file systems")
	}
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			if _, err := exec.LookPath("mkfs." + kind); err != nil {
				t.Skip(err)
			}
			d := newDevice(t, kind)
			b := &broker{t: t, dir: filepath.Join(d.dir, "data")}
			crashRun(t, b, cycles, func() {
				b.kill()
				d.cut()
			})
		})
	}
}
