/* From a YAML file to a plan: stages in order, their options, and which stage feeds which. */
#ifndef SC_PIPELINE_PLAN_H
#define SC_PIPELINE_PLAN_H

#include "base/text.h"
#include "pipeline/settings.h"

/* A setting whose value is another stage's product. */
typedef struct stage_link {
    const setting *setting;
    size_t producer; /* index of the stage */
} stage_link;

typedef struct stage {
    const verb *verb;
    char *section;   /* top-level key of the YAML: "import" for "import reviews" */
    char *name;      /* "" where the file gives none */
    char *key;       /* "train/lora": unique, the stage's name in the manifest */
    char *where;     /* "config.yaml:12" */
    options options; /* links and out are filled in before the stage runs */
    stage_link *links;
    size_t n_links, cap_links;
    char *folder;  /* where its results go, NULL for pull */
    char *product; /* the path that other stages get; NULL until pull has told it */
    char *items;   /* the catalogue an import makes, or NULL */
} stage;

typedef struct plan {
    stage *stages;
    size_t n, cap;
    char *config; /* path of the YAML file */
    char *folder; /* its folder: relative paths in the file start there */
} plan;

/* Unknown keys, misspelt settings (with the nearest right one), wrong types and names that no stage
 * has are SC_USAGE with file:line. Nothing is run and nothing but the file is read. */
sc_status plan_read(const char *config, const char *run_dir, plan *out);
void plan_free(plan *p);

/* Fills the linked settings of stage i from the products of the stages before it. */
sc_status plan_resolve(plan *p, size_t i);

/* The plan with every default filled in, as YAML text. */
sc_status plan_yaml(const plan *p, strbuf *out);

#endif
