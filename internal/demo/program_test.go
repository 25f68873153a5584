package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// What the proven programs hash to (TestProgramRuns with DAVIT_E2E=1 proves).
var programDigests = map[string]string{
	"amd64":   "9c07a93b294f8b6454819ca4c202418329877b213c5a105440945c7c7cf565c2",
	"arm64":   "1599eaa5b48fca7fc627ed429d7de88f1bc8c422f990ed1f3c59459a8ec2ac09",
	"arm":     "7aa3aae152302f783eb695a82faddc78820e01545c548c9fc3f1a0603d595eba",
	"386":     "97cdf7876f36a761cc1cacc5ebe568406795657d277f7fa1207dacf827370192",
	"riscv64": "21c7cbe94e8d75d07d1e76da798973f7f9eb0e4165bb589c452a6e370e74ef0e",
	"ppc64le": "c9c70f901fce53bbd4c93d00e6b1457a3bd6071b8af85e05bbcb1a4094d259ee",
	"s390x":   "327ff45290d40c9ecb03104a631f4d252cfdb57fcb8728ae259a4d0f8b9d2ec7",
}

func TestProgramDigest(t *testing.T) {
	if len(programs) != len(programDigests) {
		t.Errorf("%d programs, %d digests of programs", len(programs), len(programDigests))
	}
	for _, p := range programs {
		sum := sha256.Sum256(executable(t, p))
		if got, want := hex.EncodeToString(sum[:]), programDigests[p.architecture]; got != want {
			t.Errorf("%s: the program's digest is %s, want %s", p.architecture, got, want)
		}
	}
}

func TestProgramIsELF(t *testing.T) {
	for _, p := range programs {
		t.Run(p.architecture, func(t *testing.T) {
			raw := executable(t, p)
			f, err := elf.NewFile(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			if f.Type != elf.ET_EXEC || f.Machine != p.machine || f.Class != p.class || f.ByteOrder != p.order {
				t.Errorf("header is %v %v %v %v", f.Type, f.Machine, f.Class, f.ByteOrder)
			}
			if len(f.Progs) != 2 || f.Progs[0].Type != elf.PT_LOAD || f.Progs[1].Type != elf.PT_GNU_STACK {
				t.Fatalf("program headers are %v", f.Progs)
			}
			if f.Progs[1].Flags&elf.PF_X != 0 {
				t.Error("the stack is executable")
			}
			load := f.Progs[0]
			const largestPage = 64 << 10
			if load.Align < largestPage || load.Vaddr%largestPage != load.Off%largestPage {
				t.Errorf("the segment cannot be mapped with pages of %d bytes: %+v", largestPage, load.ProgHeader)
			}
			if load.Off != 0 || load.Filesz != uint64(len(raw)) || load.Memsz != load.Filesz {
				t.Errorf("the segment is not the file of %d bytes: %+v", len(raw), load.ProgHeader)
			}
			if load.Flags != elf.PF_R|elf.PF_X {
				t.Errorf("the segment's flags are %v", load.Flags)
			}
			text := Greeting(p.architecture)
			if len(text) > 255 {
				t.Errorf("the greeting has %d bytes, arm's code has room for 255", len(text))
			}
			code := len(p.code(0, 0))
			if begin := int(f.Entry-load.Vaddr) + code; begin > len(raw) || string(raw[begin:]) != text {
				t.Errorf("the greeting does not follow the %d bytes of code at %#x", code, f.Entry)
			}
		})
	}
}

// TestProgramRuns runs the program that the machine can run itself and, where
// DAVIT_E2E is 1, each one under every processor of emulators.
func TestProgramRuns(t *testing.T) {
	emulators := map[string][][]string{
		"amd64":   {{"qemu-x86_64-static"}},
		"arm64":   {{"qemu-aarch64-static"}},
		"arm":     {{"qemu-arm-static", "-cpu", "arm1176"}, {"qemu-arm-static", "-cpu", "cortex-a7"}}, // v6, v7
		"386":     {{"qemu-i386-static"}},
		"riscv64": {{"qemu-riscv64-static"}},
		"ppc64le": {{"qemu-ppc64le-static"}},
		"s390x":   {{"qemu-s390x-static"}},
	}
	for _, p := range programs {
		var hosts [][]string
		if runtime.GOOS == "linux" && runtime.GOARCH == p.architecture {
			hosts = append(hosts, nil)
		}
		if os.Getenv("DAVIT_E2E") == "1" {
			if len(emulators[p.architecture]) == 0 {
				t.Errorf("%s: no emulator is known", p.architecture)
			}
			hosts = append(hosts, emulators[p.architecture]...)
		}
		path := filepath.Join(t.TempDir(), "hello")
		if err := os.WriteFile(path, executable(t, p), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, host := range hosts {
			args := append(append([]string{}, host...), path)
			var stdout, stderr bytes.Buffer
			cmd := exec.CommandContext(context.Background(), args[0], args[1:]...)
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil {
				t.Errorf("%s: run %v: %v\n%s", p.architecture, args, err, stderr.String())
				continue
			}
			if got, want := stdout.String(), Greeting(p.architecture); got != want || stderr.Len() > 0 {
				t.Errorf("%s: %v printed %q and %q, want %q", p.architecture, args, got, stderr.String(), want)
			}
		}
	}
}

func executable(t *testing.T, p program) []byte {
	t.Helper()
	raw, err := p.file(Greeting(p.architecture))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
