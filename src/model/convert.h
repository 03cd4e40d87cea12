/* A GGUF file -> a Hugging Face model folder. */
#ifndef SC_MODEL_CONVERT_H
#define SC_MODEL_CONVERT_H

#include "base/status.h"

/* Writes config.json, generation_config.json, model.safetensors (float32, dequantised, unrounded,
 * Hugging Face's names and row order), tokenizer.json, tokenizer_config.json, special_tokens_map.json
 * and, where the file has a chat template, chat_template.jinja. Architecture "llama" with a byte-level BPE
 * tokenizer; everything else is SC_BAD_INPUT and named. Atomic: FOLDER.tmp, then a rename; `folder` must be
 * absent or empty. */
sc_status model_convert_gguf(const char *gguf_path, const char *folder);

#endif
