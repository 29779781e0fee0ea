package ort

import (
	"context"
	"errors"

	"github.com/filterlens/filterlens/inspect/engine"
)

// Info describes the runtime that Open would use.
type Info struct {
	Library Library
	// Version is what the library calls itself.
	Version string
	// Providers lists CPU and CUDA.
	Providers []ProviderInfo
}

// ProviderInfo says whether an execution provider works here.
type ProviderInfo struct {
	Name   string
	Usable bool
	// Reason says in one line why it is not usable, "" when it is.
	Reason string
}

// Describe loads the library that Locate finds, fetching nothing, and runs a
// graph of one node on every provider, for the library tells no other way
// whether a provider works on this machine. A library that is missing or does
// not load is an *engine.UnavailableError; a provider that does not work is an
// entry in the result.
func Describe(ctx context.Context, opts Options) (info Info, err error) {
	opts.Offline = true
	lib, err := Locate(ctx, opts)
	if err != nil {
		return Info{}, err
	}
	if err := acquire(lib.Path); err != nil {
		return Info{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	info.Library = lib
	opts.Library = lib.Path
	for _, name := range []string{CPU, CUDA} {
		p := ProviderInfo{Name: name, Usable: true}
		opts.Provider = name
		e, err := Open(ctx, opts)
		if err == nil {
			info.Version = e.Version()
			err = errors.Join(e.probe(ctx), e.Close())
		}
		if ctx.Err() != nil {
			return Info{}, ctx.Err()
		}
		if err != nil {
			p.Usable, p.Reason = false, reason(err)
		}
		info.Providers = append(info.Providers, p)
	}
	return info, nil
}

// reason is what the library said about a provider, without the hint.
func reason(err error) string {
	var u *engine.UnavailableError
	if errors.As(err, &u) && u.Err != nil {
		err = u.Err
	}
	var e *engine.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	return oneLine(err).Error()
}
