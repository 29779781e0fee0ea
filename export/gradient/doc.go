// Package gradient trains an ONNX image classifier without a training framework:
// it writes the backward pass of the model as ordinary ONNX operators, adds a step
// of stochastic gradient descent, and runs both on the engine that runs the model.
//
// Build turns a model into such a graph; Train runs it over the samples of a data
// set, with weights that are exactly zero held at zero. Only rules of
// differentiation and the loop around them belong here: what is pruned and why,
// and how weights get into a file, is decided elsewhere.
//
// # Operators
//
// Conv of two spatial dimensions (any strides, pads, dilations and groups),
// Gemm, MatMul, BatchNormalization with its running statistics, Relu, LeakyRelu,
// PRelu, Sigmoid, HardSigmoid, HardSwish, Tanh, Clip, Softmax, LogSoftmax,
// MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool, ReduceMean, ReduceSum,
// Add, Sub, Mul, Div, Neg, Sum with broadcasting, Flatten, Reshape, Squeeze,
// Unsqueeze, Transpose, Concat, Split, Slice, Pad, Expand, Identity, and Dropout and
// Cast where they change nothing. Any other operator is refused, unless it lies
// before the first weight that is trained.
//
// Where a function has no derivative the subgradient is: 0 for Relu at 0 and for
// Clip and its kin at a bound; for MaxPool, windows with several largest elements
// share the gradient equally among them (PyTorch gives all of it to the first).
//
// # What results depend on
//
// The order of the samples and their augmentation follow from the seed alone. The
// numbers follow from it too as long as engine, machine and number of threads stay
// the same; with other threads or another processor sums are rounded in another
// order, and after some steps weights differ in their last digits.
package gradient
