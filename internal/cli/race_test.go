//go:build race

package cli_test

// raceEnabled says that programs take several times their memory.
const raceEnabled = true
