"""The tuner: measures the variants of products on a device, and chooses.

problem   what is tuned: the forms of a model's weights, and how the model uses them
trials    one variant checked against the reference and timed; what runs in the child process
ceiling   what the device can do at most
child     the process that trials run in, with a time limit; it may crash
search    which of thousands of variants to try
tune      all of it for a device and a model
selftest  every variant on a device, as a report
"""
