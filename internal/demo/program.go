package demo

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// program is how an architecture's greeting program is made: a static ELF
// executable that makes two system calls, write(1, text, size) and exit(0).
type program struct {
	architecture string
	machine      elf.Machine
	class        elf.Class
	order        binary.ByteOrder
	flags        uint32 // the ELF header's e_flags
	// code gives the instructions. The text stands right behind them: text is
	// its address and size its length, at most 255 bytes (arm's immediates).
	// The length of the code depends on neither.
	code func(text, size uint32) []byte
}

var (
	little = binary.LittleEndian
	big    = binary.BigEndian
)

// programs are hand-assembled. arm's runs on ARMv6 as well as on ARMv7.
var programs = []program{
	{"amd64", elf.EM_X86_64, elf.ELFCLASS64, little, 0, func(_, size uint32) []byte {
		return join(
			b(0xbf, 1, 0, 0, 0),                     // mov  edi, 1
			b(0x48, 0x8d, 0x35, 18, 0, 0, 0),        // lea  rsi, [rip+18]   text
			b(0xba), little.AppendUint32(nil, size), // mov  edx, size
			b(0x89, 0xf8),        // mov  eax, edi        write
			b(0x0f, 0x05),        // syscall
			b(0x31, 0xff),        // xor  edi, edi
			b(0xb8, 60, 0, 0, 0), // mov  eax, 60         exit
			b(0x0f, 0x05),        // syscall
		)
	}},
	{"arm64", elf.EM_AARCH64, elf.ELFCLASS64, little, 0, func(_, size uint32) []byte {
		return words(
			0xd2800020,         // mov  x0, #1
			0x100000e1,         // adr  x1, .+28     text
			0xd2800002|size<<5, // mov  x2, #size
			0xd2800808,         // mov  x8, #64      write
			0xd4000001,         // svc  #0
			0xd2800000,         // mov  x0, #0
			0xd2800ba8,         // mov  x8, #93      exit
			0xd4000001,         // svc  #0
		)
	}},
	// EABI version 5, no floating point registers in calls.
	{"arm", elf.EM_ARM, elf.ELFCLASS32, little, 0x05000200, func(_, size uint32) []byte {
		return words(
			0xe3a00001,      // mov  r0, #1
			0xe28f1014,      // add  r1, pc, #20  text (pc is 8 bytes ahead)
			0xe3a02000|size, // mov  r2, #size
			0xe3a07004,      // mov  r7, #4       write
			0xef000000,      // svc  #0
			0xe3a00000,      // mov  r0, #0
			0xe3a07001,      // mov  r7, #1       exit
			0xef000000,      // svc  #0
		)
	}},
	{"386", elf.EM_386, elf.ELFCLASS32, little, 0, func(text, size uint32) []byte {
		return join(
			b(0xbb, 1, 0, 0, 0),                     // mov  ebx, 1
			b(0xb9), little.AppendUint32(nil, text), // mov  ecx, text
			b(0xba), little.AppendUint32(nil, size), // mov  edx, size
			b(0xb8, 4, 0, 0, 0), // mov  eax, 4          write
			b(0xcd, 0x80),       // int  0x80
			b(0x31, 0xdb),       // xor  ebx, ebx
			b(0xb8, 1, 0, 0, 0), // mov  eax, 1          exit
			b(0xcd, 0x80),       // int  0x80
		)
	}},
	// No compressed instructions, no floating point: no flags.
	{"riscv64", elf.EM_RISCV, elf.ELFCLASS64, little, 0, func(_, size uint32) []byte {
		return words(
			0x00100513,          // li    a0, 1
			0x00000597,          // auipc a1, 0
			0x02058593,          // addi  a1, a1, 32  text
			0x00000613|size<<20, // li    a2, size
			0x04000893,          // li    a7, 64      write
			0x00000073,          // ecall
			0x00000513,          // li    a0, 0
			0x05d00893,          // li    a7, 93      exit
			0x00000073,          // ecall
		)
	}},
	// ABI version 2: the entry is the code's address, not a function descriptor's.
	{"ppc64le", elf.EM_PPC64, elf.ELFCLASS64, little, 2, func(text, size uint32) []byte {
		return words(
			0x38600001,             // li   r3, 1
			0x3c800000|text>>16,    // lis  r4, text@h
			0x60840000|text&0xffff, // ori  r4, r4, text@l
			0x38a00000|size,        // li   r5, size
			0x38000004,             // li   r0, 4        write
			0x44000002,             // sc
			0x38600000,             // li   r3, 0
			0x38000001,             // li   r0, 1        exit
			0x44000002,             // sc
		)
	}},
	{"s390x", elf.EM_S390, elf.ELFCLASS64, big, 0, func(_, size uint32) []byte {
		return join(
			b(0xa7, 0x29, 0, 1),                                // lghi %r2, 1
			b(0xc0, 0x30, 0, 0, 0, 9),                          // larl %r3, .+18    text
			b(0xa7, 0x49), big.AppendUint16(nil, uint16(size)), // lghi %r4, size
			b(0x0a, 4),          // svc  4            write
			b(0xa7, 0x29, 0, 0), // lghi %r2, 0
			b(0x0a, 1),          // svc  1            exit
		)
	}},
}

// Where the file is mapped, as one segment from its first byte. Both are
// multiples of 64 KiB, the largest page of the kernels that may run it.
const (
	loadAddress = 0x400000
	loadAlign   = 0x10000
)

// file makes the executable that prints text: the ELF header, two program
// headers (the one segment; a stack that is not executable), code and text.
func (p program) file(text string) ([]byte, error) {
	ident := [elf.EI_NIDENT]byte{
		elf.EI_CLASS:   byte(p.class),
		elf.EI_DATA:    byte(elf.ELFDATA2LSB),
		elf.EI_VERSION: byte(elf.EV_CURRENT),
		elf.EI_OSABI:   byte(elf.ELFOSABI_NONE),
	}
	copy(ident[:], elf.ELFMAG)
	if p.order == big {
		ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	}

	header, segment := binary.Size(elf.Header64{}), binary.Size(elf.Prog64{})
	if p.class == elf.ELFCLASS32 {
		header, segment = binary.Size(elf.Header32{}), binary.Size(elf.Prog32{})
	}
	start := header + 2*segment
	entry := uint32(loadAddress + start)
	textAddress := entry + uint32(len(p.code(0, 0)))
	body := append(p.code(textAddress, uint32(len(text))), text...)
	size := start + len(body)

	var headers []any
	switch p.class {
	case elf.ELFCLASS32:
		headers = []any{
			elf.Header32{
				Ident: ident, Type: uint16(elf.ET_EXEC), Machine: uint16(p.machine), Version: uint32(elf.EV_CURRENT),
				Entry: entry, Flags: p.flags,
				Ehsize: uint16(header), Phoff: uint32(header), Phentsize: uint16(segment), Phnum: 2,
			},
			elf.Prog32{
				Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: loadAddress, Paddr: loadAddress,
				Filesz: uint32(size), Memsz: uint32(size), Align: loadAlign,
			},
			elf.Prog32{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W), Align: 16},
		}
	default:
		headers = []any{
			elf.Header64{
				Ident: ident, Type: uint16(elf.ET_EXEC), Machine: uint16(p.machine), Version: uint32(elf.EV_CURRENT),
				Entry: uint64(entry), Flags: p.flags,
				Ehsize: uint16(header), Phoff: uint64(header), Phentsize: uint16(segment), Phnum: 2,
			},
			elf.Prog64{
				Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: loadAddress, Paddr: loadAddress,
				Filesz: uint64(size), Memsz: uint64(size), Align: loadAlign,
			},
			elf.Prog64{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W), Align: 16},
		}
	}

	var out bytes.Buffer
	for _, h := range headers {
		if err := binary.Write(&out, p.order, h); err != nil {
			return nil, fmt.Errorf("encode ELF header for %s: %w", p.architecture, err)
		}
	}
	out.Write(body)
	return out.Bytes(), nil
}

func b(code ...byte) []byte { return code }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// words encodes instructions of 32 bits in little-endian order.
func words(instructions ...uint32) []byte {
	var code []byte
	for _, i := range instructions {
		code = little.AppendUint32(code, i)
	}
	return code
}
