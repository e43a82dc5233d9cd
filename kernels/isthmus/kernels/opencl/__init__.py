"""The OpenCL backend: kernels from `kernels/cl`, several algorithms for each product.

runtime       the only module that knows pyopencl: devices, buffers, prepared launches, errors
capabilities  what a device can do, and the limits mode that plays a smaller one
programs      sources with their defines, compiled once and kept on disk by content
layouts       how weights lie in memory; `blocks` how keys and values do
variants      what a product can be done with: `algorithms` with their tunables
tuned         which of them a device was found to like; `refusals` those that it does not run
products      a weight on a device with a variant for every number of tokens; `weights` all of them
attention     the pool of keys and values, and its launches
best          the best token of a row
layers        whole layers of one token in one launch, for a CPU
step          what one step differs from another in
operators     the graph's operators as launches
plan          the flat list of them, replayed for each step
backend       all of it behind `kernels.base.Backend`
trial         one product alone, for the tuner
"""
