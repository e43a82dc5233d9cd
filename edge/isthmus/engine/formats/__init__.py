"""How models are stored: each format read into one `ModelFile`.

reading      opens whatever it is
gguf         GGUF: `gguf_header`, `blocks` its tensor types, `vocabulary` its tokenizer
huggingface  folders: `safetensors`, `awq` 4-bit layers, `hf_tokenizer` and `tokenizer_json`
bounds       what numbers in a file can mean; `rope` and `multipliers` what becomes of some
"""
