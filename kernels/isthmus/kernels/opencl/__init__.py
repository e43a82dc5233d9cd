"""The OpenCL backend: kernels from `kernels/cl`, several algorithms for each product.

runtime       the only module that knows pyopencl: devices, buffers, prepared launches, errors
capabilities  what a device can do, and the limits mode that plays a smaller one
programs      sources with their defines, compiled once and kept on disk by content
layouts       how weights lie in memory
variants      the algorithms of a product, with their tunables
products      a weight on a device with a variant for every number of tokens
best          the best token of a row
step          a step's numbers in one buffer
plan          the flat list of prepared launches
backend       all of it behind `kernels.base.Backend`
"""
