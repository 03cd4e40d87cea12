/* Patterns of tokenizer.json translated to an alphabet of one byte per character. */
#ifndef SC_TEXT_PATTERN_H
#define SC_TEXT_PATTERN_H

#include "base/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ASCII stands for itself; every other character is one of these. */
#define PATTERN_OTHER ((char)0x80)
#define PATTERN_LETTER ((char)0x81)
#define PATTERN_LONG_S ((char)0x82) /* U+017F, a letter that (?i:s) matches too */
#define PATTERN_NUMBER ((char)0x83)
#define PATTERN_NUMERIC ((char)0x84) /* a number for the Digits pre-tokenizer only */
#define PATTERN_SPACE ((char)0x85)

/* The pattern of ByteLevel with use_regex (GPT-2's). */
#define PATTERN_GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/* The patterns of Llama-3's and Qwen2's Split. */
#define PATTERN_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define PATTERN_TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define PATTERN_LLAMA3 PATTERN_CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" PATTERN_TAIL
#define PATTERN_QWEN2 PATTERN_CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" PATTERN_TAIL

/* Appends the translation. Only what means the same in Oniguruma (the engine of the `tokenizers`
 * library) and in PCRE2 is let through; anything else is SC_BAD_INPUT, naming it and `where`. */
sc_status pattern_translate(const char *pattern, const char *where, strbuf *out);

#ifdef __cplusplus
}
#endif
#endif
