package afcc

import "fmt"

// ArgumentError says which argument of a function cannot be used and why.
type ArgumentError struct {
	// Name is the argument, as a user would call it: "theta", "head weights".
	Name string
	// Reason says what is wrong and, where it helps, what would be right.
	Reason string
}

func (e *ArgumentError) Error() string { return e.Name + ": " + e.Reason }

func argumentf(name, format string, args ...any) error {
	return &ArgumentError{Name: name, Reason: fmt.Sprintf(format, args...)}
}
