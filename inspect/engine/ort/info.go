//go:build cgo

package ort

import (
	"context"
	"errors"

	"github.com/filterlens/filterlens/inspect/engine"
	ort "github.com/yalue/onnxruntime_go"
)

// Describe loads the library that Locate finds, fetching nothing, and runs a
// graph of one node on every provider, for the library tells no other way
// whether a provider works on this machine. A library that is missing or does
// not load is an *engine.UnavailableError; a provider that does not work is an
// entry in the result.
func Describe(ctx context.Context, opts Options) (Info, error) {
	opts.Offline = true
	opts.Provider = CPU
	lib, err := Locate(ctx, opts)
	if err != nil {
		return Info{}, err
	}
	info := Info{Library: lib}
	if err := acquire(lib.Path); err != nil {
		return Info{}, err
	}
	info.Version = ort.GetVersion()
	if err := release(); err != nil {
		return Info{}, err
	}
	for _, p := range []ProviderInfo{{Name: CPU}, {Name: CUDA, Shape: ShapeBuiltIn}, {Name: CUDA, Shape: ShapePlugin}} {
		opts.Provider, opts.shape = p.Name, p.Shape
		if err := p.try(ctx, opts); err != nil {
			if ctx.Err() != nil {
				return Info{}, ctx.Err()
			}
			p.Reason = reason(err)
		}
		p.Usable = p.Reason == ""
		info.Providers = append(info.Providers, p)
	}
	return info, nil
}

// try opens an engine and runs a node on it.
func (p *ProviderInfo) try(ctx context.Context, opts Options) error {
	lib, err := Locate(ctx, opts)
	if err != nil {
		return err
	}
	p.Library = lib.Path
	if p.Name == CUDA {
		// Open would say the same, and load the library for nothing.
		c, err := findCUDA(lib.Path, opts)
		if err != nil {
			return err
		}
		p.Provider = c.path
	}
	opts.Library = lib.Path
	e, err := Open(ctx, opts)
	if err != nil {
		return err
	}
	_, err = e.probe(ctx)
	return errors.Join(err, e.Close())
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
