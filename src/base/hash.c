/* SHA-256 by OpenSSL's EVP interface. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "base/log.h"

static void to_hex(const unsigned char *digest, size_t n, char *hex)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[2 * n] = '\0';
}

void sha256_hex(const void *bytes, size_t n, char hex[65])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    hex[0] = '\0';
    if (EVP_Digest(bytes, n, digest, &length, EVP_sha256(), NULL) == 1)
        to_hex(digest, length, hex);
}

sc_status file_sha256(const char *path, char hex[65])
{
    enum { CHUNK = 1 << 20, POLL_EVERY = 64 };
    sc_status status = SC_OK;
    unsigned char *chunk = NULL;
    EVP_MD_CTX *context = NULL;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    hex[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        SC_TRY(sc_fail_errno(SC_BAD_INPUT, "Cannot open %s", path));
    SC_TRY(sc_alloc(&chunk, CHUNK, 1));
    context = EVP_MD_CTX_new();
    if (!context || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
        SC_TRY(sc_fail(SC_INTERNAL, "OpenSSL gives no SHA-256; repair its installation"));
    for (int n_chunks = 1;; n_chunks++) {
        ssize_t n = read(fd, chunk, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            SC_TRY(sc_fail_errno(SC_BAD_INPUT, "Cannot read %s", path));
        if (n == 0)
            break;
        if (EVP_DigestUpdate(context, chunk, (size_t)n) != 1)
            SC_TRY(sc_fail(SC_INTERNAL, "OpenSSL failed to hash %s; repair its installation", path));
        /* Only a large file takes long: what is kept after a stop is small, and must get its hash. */
        if (n_chunks % POLL_EVERY == 0)
            SC_TRY(check_cancelled());
    }
    if (EVP_DigestFinal_ex(context, digest, &length) != 1)
        SC_TRY(sc_fail(SC_INTERNAL, "OpenSSL failed to hash %s; repair its installation", path));
    to_hex(digest, length, hex);
cleanup:
    EVP_MD_CTX_free(context);
    if (fd >= 0)
        close(fd);
    free(chunk);
    return status;
}
