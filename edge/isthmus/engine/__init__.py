"""The engine on the device: model files, tokenizer, graph, cache, sampler, scheduler."""
