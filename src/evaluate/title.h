/* How titles are brought into one form before they are compared. */
#ifndef SC_EVALUATE_TITLE_H
#define SC_EVALUATE_TITLE_H

#include "base/text.h"

/* Python's \s and str.strip() for a code point. */
bool title_space(uint32_t code_point);
/* Unicode white space trimmed and every run of it made one blank, appended. */
void title_fold_spaces(strbuf *out, const char *text, size_t n);
/* Every \([^()]*\) deleted in one pass, appended. */
void title_drop_parentheses(strbuf *out, const char *text, size_t n);
/* Shortens *n by groups in parentheses at the end of the text, "(1999)"; one that is the whole text stays. */
void title_drop_trailing(size_t *n, const char *text);

/* He et al. 2023 (src/utils.py): the last segment of an entity's URI, '_' '-' '>' as blanks, without
 * parentheses, spaces folded. For a plain name the same without the segment rule. Appended. */
void title_he_entity(strbuf *out, const char *uri);
/* Ours, strict: without trailing parentheses; compatibility forms and accents folded, lower case;
 * "&" is "and"; an article after a comma goes to the front ("Matrix, The"); other punctuation falls
 * away; spaces folded. May be empty. Appended. */
void title_normalise(strbuf *out, const char *title);
/* Whether two normalised titles carry the same numbers in the same order, as digits, Roman
 * numerals ("ii" .. "xx") or words ("two" .. "ten"): "scary movie 2" is not "scary movie 5". */
bool title_same_numbers(const char *a, const char *b);

#endif
