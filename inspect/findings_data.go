package inspect

import "context"

func (f *finder) storage(ctx context.Context) error { return ctx.Err() }

func (f *finder) weights(ctx context.Context) error { return ctx.Err() }
