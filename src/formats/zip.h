/* Members of a .zip archive (and so of a Python wheel): stored or deflated, extracted one by one.
 * Format: PKWARE APPNOTE.TXT 6.3; neither zip64, nor encryption, nor archives in several parts. */
#ifndef SC_FORMATS_ZIP_H
#define SC_FORMATS_ZIP_H

#include "base/file.h"

typedef struct zip_member {
    const char *name; /* as in the archive; zip_extract_all refuses those that leave its folder */
    uint64_t size;    /* extracted */
    uint64_t packed, header;
    uint32_t crc;
    uint16_t method; /* 0 stored, 8 deflated */
} zip_member;

typedef struct zip_archive zip_archive;
sc_status zip_open(const char *path, zip_archive **out);
void zip_close(zip_archive *z); /* NULL is fine */
size_t zip_count(const zip_archive *z);
const zip_member *zip_at(const zip_archive *z, size_t i);
const zip_member *zip_find(const zip_archive *z, const char *name); /* NULL if there is none */
/* Writes the member to `path` (atomic); size and CRC-32 are checked. */
sc_status zip_extract(const zip_archive *z, const zip_member *m, const char *path);
/* Every file into `folder`, subfolders made. A name that is absolute or holds ".." is refused. */
sc_status zip_extract_all(const zip_archive *z, const char *folder);

#endif
