package export

import (
	"context"

	"github.com/filterlens/filterlens/afcc/probe"
)

func (p *pipeline) find(ctx context.Context, res *probe.Result) (*Plan, error) {
	return nil, &OptionError{"not yet"}
}
