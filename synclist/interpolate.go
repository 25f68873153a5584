package synclist

import (
	"errors"
	"fmt"
	"strings"
)

// maxVariables is how many variables a text may have, and how deep their
// defaults go.
const maxVariables = 20

// interpolate fills in the variables of a text as compose does, none of them
// set: ${NAME:-TEXT} and ${NAME-TEXT} are TEXT, ${NAME:+TEXT} and ${NAME+TEXT}
// are nothing, $$ is a dollar. It is an error if one has no default. ${NAME:=TEXT}
// is TEXT as well, as Flux has it.
func interpolate(s string) (string, error) {
	left := maxVariables
	return fill(s, &left)
}

func fill(s string, left *int) (string, error) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, "$")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		if *left--; *left < 0 {
			return "", fmt.Errorf("it has more than %d variables", maxVariables)
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			s = rest[1:]
		case strings.HasPrefix(rest, "{"):
			end := closing(rest)
			if end < 0 {
				return "", errors.New("a variable ${NAME} is not closed")
			}
			value, err := variable(rest[1:end], left)
			if err != nil {
				return "", err
			}
			b.WriteString(value)
			s = rest[end+1:]
		default:
			if name := rest[:nameLength(rest)]; name != "" {
				return "", noDefault(name)
			}
			return "", errors.New("a $ stands for no variable: write $$ for a dollar")
		}
	}
}

// closing is where the brace is closed that s begins with; -1: nowhere.
func closing(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// variable is the value of what stands between braces.
func variable(s string, left *int) (string, error) {
	n := nameLength(s)
	name, operator := s[:n], strings.TrimPrefix(s[n:], ":")
	switch {
	case name == "":
		return "", errors.New("a variable has no name: want ${NAME:-DEFAULT}")
	case strings.HasPrefix(operator, "-"), strings.HasPrefix(s[n:], ":="):
		return fill(operator[1:], left)
	case strings.HasPrefix(operator, "+"):
		return "", nil
	}
	return "", noDefault(name)
}

func noDefault(name string) error {
	return fmt.Errorf("the variable %s has no default", quote(name))
}

// nameLength is how many bytes of s are a variable's name.
func nameLength(s string) int {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}
