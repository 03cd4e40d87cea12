/* Letters, numbers and white space as the `tokenizers` library sees them, whatever the Unicode
 * version of the libraries on this machine. */
#ifndef SC_TEXT_UNICODE_CLASS_H
#define SC_TEXT_UNICODE_CLASS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum unicode_class_id {
    UNICODE_OTHER = 0,
    UNICODE_LETTER = 1,  /* \p{L} in Oniguruma */
    UNICODE_NUMBER = 2,  /* \p{N} in Oniguruma, and numeric in Rust */
    UNICODE_NUMERIC = 3, /* numeric in Rust alone (its Unicode version is newer) */
    UNICODE_SPACE = 4    /* \s in Oniguruma */
} unicode_class_id;

unicode_class_id unicode_class(uint32_t code_point);
/* A mark that the library's NFC, of Unicode 9, does not know: there it stands alone and moves nowhere. */
bool unicode_is_late_mark(uint32_t code_point);

#ifdef __cplusplus
}
#endif
#endif
